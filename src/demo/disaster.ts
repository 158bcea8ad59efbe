import { secret } from "../lib/secret.ts";
import type { Connection } from "../postgres/connection.ts";
import { identifier, literal } from "../postgres/quote.ts";
import { type Session, withSession } from "../postgres/session.ts";
import { applications, type DemoApplication } from "./applications.ts";

interface Server {
  /** The superuser's. */
  connection: Connection;
  signal: AbortSignal;
}

/** Makes each application's role and database, closed to the others, and its rows. */
export async function fill(server: Server): Promise<void> {
  for (const application of applications) {
    const { database, owner, password, sql } = application;
    await onServer(server, "postgres", async (session) => {
      await session.query(`CREATE ROLE ${identifier(owner)} LOGIN PASSWORD ${literal(password)} CONNECTION LIMIT 20`);
      await session.query(`CREATE DATABASE ${identifier(database)} OWNER ${identifier(owner)}`);
      await session.query(`REVOKE ALL ON DATABASE ${identifier(database)} FROM PUBLIC`);
    });
    await onServer(server, database, async (session) => {
      await session.query(`SET ROLE ${identifier(owner)}; SET search_path TO public`);
      for (const statements of sql) await session.query(statements);
    });
  }
}

/** What goes wrong; gives the statements. */
export async function disaster(server: Server): Promise<string[]> {
  const inDatabase = [`DROP TABLE public."LiteLLM_SpendLogs"`];
  const onInstance = ["DROP DATABASE n8n", "DROP ROLE n8n_user"];
  await onServer(server, "litellm", (session) => each(session, inDatabase));
  await onServer(server, "postgres", (session) => each(session, onInstance));
  return [...inDatabase.map((statement) => `litellm: ${statement}`), ...onInstance];
}

/** Connects as the application would, with the password it had before. */
export async function logIn({ connection, signal }: Server, database: string): Promise<void> {
  const { owner, password } = applications.find((each) => each.database === database) as DemoApplication;
  const asOwner = { connection: { ...connection, user: owner, password: secret(password) }, signal };
  await onServer(asOwner, database, (session) => session.query("SELECT current_user"));
}

async function each(session: Session, statements: readonly string[]): Promise<void> {
  for (const statement of statements) await session.query(statement);
}

function onServer<Result>(
  { connection, signal }: Server,
  database: string,
  use: (session: Session) => Promise<Result>,
): Promise<Result> {
  return withSession(connection, { database, signal, applicationName: "pgkit demo" }, use);
}
