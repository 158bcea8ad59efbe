import { PgkitError } from "../lib/errors.ts";
import type { Secret } from "../lib/secret.ts";

/** Where a server is and who asks, in libpq's terms. */
export interface Connection {
  /** Tried in this order; a host that starts with `/` is the folder of a Unix socket. */
  readonly hosts: readonly { readonly host: string; readonly port: number }[];
  readonly user: string;
  readonly password: Secret | undefined;
  /**
   * Reads the password again from where it is: true when it is another one now, which `password` reveals from then on. Left out
   * where it cannot change.
   */
  readonly renewPassword?: (() => Promise<boolean>) | undefined;
  /** The database to connect to where the work is not about a certain one. */
  readonly database: string;
  readonly sslMode: SslMode;
  /** libpq's other parameters as they were given, by their libpq names (`sslrootcert`, `options`, ...). */
  readonly parameters: Readonly<Record<string, string>>;
}

export type SslMode = "disable" | "allow" | "prefer" | "require" | "verify-ca" | "verify-full";

const sslModes: readonly string[] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/** libpq's parameters that a connection may carry, and the variables that tell its programs. */
const parameterVariables: Readonly<Record<string, string>> = {
  sslrootcert: "PGSSLROOTCERT",
  sslcert: "PGSSLCERT",
  sslkey: "PGSSLKEY",
  sslcrl: "PGSSLCRL",
  sslnegotiation: "PGSSLNEGOTIATION",
  ssl_min_protocol_version: "PGSSLMINPROTOCOLVERSION",
  channel_binding: "PGCHANNELBINDING",
  connect_timeout: "PGCONNECT_TIMEOUT",
  options: "PGOPTIONS",
  passfile: "PGPASSFILE",
  service: "PGSERVICE",
  servicefile: "PGSERVICEFILE",
  krbsrvname: "PGKRBSRVNAME",
  gssencmode: "PGGSSENCMODE",
  target_session_attrs: "PGTARGETSESSIONATTRS",
  application_name: "PGAPPNAME",
};

/** Every variable that tells libpq where to connect; `PGPASSFILE` stays the user's. */
export const libpqVariables: readonly string[] = [
  ...Object.values(parameterVariables).filter((name) => name !== "PGPASSFILE"),
  ...["PGHOST", "PGHOSTADDR", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD", "PGSSLMODE", "PGREQUIREPEER"],
];

/** Parses `postgresql://user@host:port/database?sslmode=...`, also with several hosts. Fails with `config`. */
export function parseConnection(url: string, password: Secret | undefined): Connection {
  const match = /^postgres(?:ql)?:\/\/(?:([^@/?]*)@)?([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/.exec(url);
  if (match === null) throw invalid("it does not look like postgresql://user@host:port/database");
  const [, userInfo = "", hostList = "", path = "", query = ""] = match;
  const parameters = Object.fromEntries(new URLSearchParams(query));
  const { sslmode = "prefer", host, port, user, dbname, ...rest } = parameters;
  for (const name of Object.keys(rest)) {
    if (!(name in parameterVariables)) throw invalid(`it has the parameter "${name}", which pgkit does not know`);
  }
  if (!sslModes.includes(sslmode)) throw invalid(`sslmode=${sslmode} is none of ${sslModes.join(", ")}`);
  const name = user ?? decode(userInfo.split(":")[0] ?? "");
  if (name === "") throw invalid("it names no user");
  return {
    hosts: parseHosts(hostList, host, port),
    user: name,
    password,
    database: dbname ?? (decode(path) || name),
    sslMode: sslmode as SslMode,
    parameters: rest,
  };
}

/** The variables by which libpq's programs connect: a password is never in their arguments, which all users see. */
export function libpqEnvironment(
  connection: Connection,
  database: string,
  applicationName: string,
): Record<string, string> {
  const environment: Record<string, string> = {
    PGHOST: connection.hosts.map(({ host }) => host).join(","),
    PGPORT: connection.hosts.map(({ port }) => String(port)).join(","),
    PGUSER: connection.user,
    PGDATABASE: database,
    PGSSLMODE: connection.sslMode,
    PGAPPNAME: applicationName,
    PGCLIENTENCODING: "UTF8",
  };
  if (connection.password !== undefined) environment.PGPASSWORD = connection.password.reveal();
  for (const [name, value] of Object.entries(connection.parameters)) {
    const variable = parameterVariables[name];
    if (variable !== undefined) environment[variable] = value;
  }
  return environment;
}

/** `host:port` for messages. */
export function addressOf({ hosts }: Connection): string {
  return hosts.map(({ host, port }) => `${host}:${port}`).join(",");
}

/** As libpq reads them: `host=` and `port=` of the query stand over the address, each for itself. */
function parseHosts(address: string, hosts: string | undefined, ports: string | undefined): Connection["hosts"] {
  const authority = address.split(",").map(parseAddress);
  const portList = (ports?.split(",") ?? authority.map((entry) => entry.port ?? "5432")).map(parsePort);
  return (hosts?.split(",") ?? authority.map((entry) => entry.host)).map((host, index) => ({
    host: host === "" ? "localhost" : host,
    port: portList[index] ?? portList[0] ?? 5432,
  }));
}

function parseAddress(entry: string): { host: string; port: string | undefined } {
  const [, bracketed, plain = "", port] = /^(?:\[([^\]]*)\]|([^:]*))(?::(.*))?$/.exec(entry) ?? [];
  return { host: bracketed ?? decode(plain), port: port === "" ? undefined : port };
}

function parsePort(text: string): number {
  const number = /^\d+$/.test(text) ? Number(text) : 0;
  if (number < 1 || number > 65_535) throw invalid(`"${text}" is not a port`);
  return number;
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw invalid("it holds a % that does not stand for a character");
  }
}

function invalid(what: string): PgkitError {
  return new PgkitError("config", `the connection URL cannot be used: ${what}`, {
    hint: "postgresql://user@host:port/database?sslmode=prefer, with special characters as %XX",
  });
}
