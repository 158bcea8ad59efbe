import type { MoveContext, Risk, Side } from "../step.ts";
import { type MovedDatabase, movedDatabase } from "./moved-database.ts";
import { type PreflightServer, preflightServer } from "./server.ts";

/** Everything that the checks go by; asked of each server in a few statements. */
export interface Known {
  readonly context: MoveContext;
  readonly source: PreflightServer;
  readonly target: PreflightServer;
  readonly database: MovedDatabase;
}

/** A risk, and whether it goes away where the move is made offline. */
export interface Found extends Risk {
  readonly onlineOnly?: true;
}

export async function know(context: MoveContext): Promise<Known> {
  const server = (side: Side) =>
    context.session(
      side,
      (session) => preflightServer(session, context.move.database),
      context[side].connection.database,
    );
  const [source, target, database] = await Promise.all([
    server("source"),
    server("target"),
    context.session("source", movedDatabase),
  ]);
  return { context, source, target, database };
}

export function refusal(message: string, hint: string): Found {
  return { level: "refusal", message, hint };
}

export function warning(message: string, hint: string): Found {
  return { level: "warning", message, hint };
}

/** Refused online alone. */
export function onlineRefusal(message: string, hint: string): Found {
  return { level: "refusal", message, hint: `${hint}; or move it with --offline`, onlineOnly: true };
}

/** The first few, and how many more. */
export function some(names: readonly string[], most = 6): string {
  const shown = names.slice(0, most).join(", ");
  return names.length > most ? `${shown} and ${names.length - most} more` : shown;
}
