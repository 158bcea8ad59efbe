import type pg from "pg";
import { PgkitError } from "../lib/errors.ts";
import { connectToAny } from "./connect.ts";
import { addressOf, type Connection } from "./connection.ts";
import { postgresError } from "./session-errors.ts";

/** The admin console of a PgBouncer. It knows a few commands, by the simple query protocol only, and no SQL. */
export interface PgBouncerConsole {
  /** For messages: `PgBouncer at 127.0.0.1:6432`. */
  readonly where: string;
  /** Runs one command; a name in it is quoted by `consoleName`. Fails with `switch-denied`, `-unreachable` or `-failed`. */
  command<Row>(command: string): Promise<Row[]>;
}

/** Opens the console for `use` and closes it. The signal cuts the connection, and with it a command that waits. */
export async function withPgBouncerConsole<Result>(
  connection: Connection,
  signal: AbortSignal,
  use: (console: PgBouncerConsole) => Promise<Result>,
): Promise<Result> {
  signal.throwIfAborted();
  const where = `PgBouncer at ${addressOf(connection)}`;
  const client = await open(connection, where);
  client.on("error", () => {
    // A connection that dies is reported by the command that waits, or by the next one.
  });
  const cut = () => void client.end();
  signal.addEventListener("abort", cut);
  try {
    // Aborted while it was opened: the listener came too late.
    signal.throwIfAborted();
    return await use({
      where,
      command: async <Row>(command: string) => {
        try {
          return (await client.query(command)).rows as Row[];
        } catch (cause) {
          signal.throwIfAborted();
          throw consoleError(cause, where);
        }
      },
    });
  } finally {
    signal.removeEventListener("abort", cut);
    await client.end();
  }
}

/** A database's name in a command. */
export function consoleName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}

async function open(connection: Connection, where: string): Promise<pg.Client> {
  try {
    return await connectToAny(connection, { database: connection.database, applicationName: "pgkit" });
  } catch (error) {
    throw consoleError(error, where);
  }
}

/** PgBouncer gives most of its refusals the SQLSTATE of a broken protocol: its words tell them apart. */
function consoleError(error: unknown, where: string): unknown {
  const told = postgresError(error, where);
  if (!(told instanceof PgkitError)) return told;
  const words = told.cause instanceof Error ? told.cause.message : told.message;
  if (/auth|password|admin access|not allowed|no such user|permission/i.test(words)) {
    return new PgkitError("switch-denied", `${where} refused: ${words}`, {
      hint: "its user must be among PgBouncer's admin_users, with the password of its auth_file; the URL is switch.pgbouncer.admin",
      cause: error,
    });
  }
  if (told.code === "postgres-unreachable" && !isAnswer(told.cause)) {
    return new PgkitError("switch-unreachable", told.message, {
      hint: "is PgBouncer running, and is switch.pgbouncer.admin its address?",
      cause: error,
    });
  }
  return new PgkitError("switch-failed", `${where} answered: ${words}`, { hint: "see PgBouncer's log", cause: error });
}

function isAnswer(error: unknown): boolean {
  return error instanceof Error && "severity" in error;
}
