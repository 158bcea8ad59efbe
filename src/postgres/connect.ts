import { readFile } from "node:fs/promises";
import { type ConnectionOptions, checkServerIdentity, type PeerCertificate } from "node:tls";
import pg from "pg";
import { PgkitError } from "../lib/errors.ts";
import { addressOf, type Connection } from "./connection.ts";
import { isServerError, postgresError, saysNoTls, sqlStateOf } from "./session-errors.ts";

export interface ConnectOptions {
  database: string;
  applicationName: string;
  /** A walsender: takes the replication protocol's commands, and belongs to no database. */
  replication?: boolean;
}

const connectTimeoutMs = 15_000;

/**
 * A client of the first host that answers, by TLS as libpq would for the connection's sslmode. The caller listens for its
 * errors and ends it. A password that was changed since it was read is read again, once. Fails with `postgres-denied`,
 * `postgres-unreachable` or what else the server answers.
 */
export async function connectToAny(connection: Connection, options: ConnectOptions): Promise<pg.Client> {
  try {
    return await connectToFirst(connection, options);
  } catch (error) {
    const isWrong = sqlStateOf(error) === wrongPassword;
    if (!isWrong || connection.renewPassword === undefined || !(await connection.renewPassword())) throw error;
    return await connectToFirst(connection, options);
  }
}

const wrongPassword = "28P01";

async function connectToFirst(connection: Connection, options: ConnectOptions): Promise<pg.Client> {
  const failures: unknown[] = [];
  for (const address of connection.hosts) {
    for (const ssl of await sslAttempts(connection, address.host)) {
      try {
        return await connectOnce(connection, address, ssl, options);
      } catch (error) {
        failures.push(error);
        if (!mayTryNext(error)) break;
      }
    }
  }
  const what = options.replication === true ? "replication" : `database ${options.database}`;
  throw postgresError(
    failures.find(isServerError) ?? failures.find((error) => !saysNoTls(error)) ?? failures[0],
    `${what} on ${addressOf(connection)} as ${connection.user}`,
  );
}

/** Only what TLS or its lack brought about may go better the other way: a wrong password and a silent host are final. */
function mayTryNext(error: unknown): boolean {
  if (isServerError(error)) return /no pg_hba.conf entry|SSL/i.test(error.message);
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return saysNoTls(error) || /^(ERR_|EPROTO|ECONNRESET|EPIPE)/.test(code);
}

async function connectOnce(
  connection: Connection,
  { host, port }: { host: string; port: number },
  ssl: false | ConnectionOptions,
  { database, applicationName, replication = false }: ConnectOptions,
): Promise<pg.Client> {
  const client = new pg.Client({
    host,
    port,
    user: connection.user,
    database,
    password: connection.password?.reveal(),
    ssl,
    application_name: connection.parameters.application_name ?? applicationName,
    options: connection.parameters.options,
    connectionTimeoutMillis: Number(connection.parameters.connect_timeout ?? 0) * 1000 || connectTimeoutMs,
    keepAlive: true,
    ...(replication ? { replication: "true" } : {}),
  });
  // A failed start can report its error twice, the second time as an event.
  client.on("error", () => undefined);
  try {
    await client.connect();
  } catch (error) {
    await client.end().catch(() => undefined);
    throw error;
  }
  client.removeAllListeners("error");
  return client;
}

/** What libpq would try, in its order, for the connection's sslmode. */
async function sslAttempts(connection: Connection, host: string): Promise<(false | ConnectionOptions)[]> {
  if (host.startsWith("/")) return [false];
  switch (connection.sslMode) {
    case "disable":
      return [false];
    case "allow":
      return [false, await tls(connection, host, "none")];
    case "prefer":
      return [await tls(connection, host, "none"), false];
    case "require":
      return [await tls(connection, host, connection.parameters.sslrootcert === undefined ? "none" : "chain")];
    case "verify-ca":
      return [await tls(connection, host, "chain")];
    case "verify-full":
      return [await tls(connection, host, "name")];
  }
}

async function tls(
  { parameters }: Connection,
  host: string,
  check: "none" | "chain" | "name",
): Promise<ConnectionOptions> {
  const { sslrootcert, sslcert, sslkey } = parameters;
  return {
    rejectUnauthorized: check !== "none",
    checkServerIdentity: (_, certificate) => (check === "name" ? identityProblem(host, certificate) : undefined),
    ...(sslrootcert === undefined || sslrootcert === "system" ? {} : { ca: await pem(sslrootcert) }),
    ...(sslcert === undefined ? {} : { cert: await pem(sslcert) }),
    ...(sslkey === undefined ? {} : { key: await pem(sslkey) }),
  };
}

function identityProblem(host: string, certificate: PeerCertificate): Error | undefined {
  if (checkServerIdentity(host, certificate) === undefined) return undefined;
  const names = certificate.subjectaltname ?? `${certificate.subject.CN ?? "no name"}`;
  return new Error(`its certificate is for ${names}, not for ${host}`);
}

async function pem(path: string): Promise<Buffer> {
  try {
    return await readFile(path);
  } catch (cause) {
    throw new PgkitError("config", `the certificate file ${path} cannot be read`, {
      hint: "check sslrootcert, sslcert and sslkey in the connection URL",
      cause,
    });
  }
}
