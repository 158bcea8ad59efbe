import { PgkitError } from "../lib/errors.ts";

/** Parts of where a connection string leads, by what they are and not by how it spells them. */
export interface DsnParts {
  readonly host?: string | undefined;
  readonly port?: string | undefined;
  readonly database?: string | undefined;
  readonly user?: string | undefined;
  readonly password?: string | undefined;
}

const keywords = { host: "host", port: "port", database: "dbname", user: "user", password: "password" } as const;

/** One `key = value` of a DSN, and where it stands. */
interface Setting {
  readonly key: string;
  readonly value: string;
  readonly start: number;
  readonly end: number;
}

/** libpq's key/value form: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING. Fails with `config`. */
export function readDsn(text: string, where: string): DsnParts {
  const settings = split(text);
  if (settings === undefined || settings.length === 0) throw notConnection(where);
  for (const key of ["hostaddr", "service"]) {
    if (settings.some((one) => one.key === key)) throw notConnection(where, `its ${key} would stand over a new host`);
  }
  // The last of several counts.
  const lastOf = (key: string) => settings.findLast((one) => one.key === key)?.value;
  return Object.fromEntries(Object.entries(keywords).map(([part, key]) => [part, lastOf(key)]));
}

/** The DSN with these parts changed where they stand, or added at its end. */
export function pointDsn(text: string, changes: DsnParts): string {
  let result = text;
  for (const [part, key] of Object.entries(keywords)) {
    const value = changes[part as keyof DsnParts];
    if (value === undefined) continue;
    const { host, port } = part === "host" || part === "port" ? hostsAndPorts(changes) : {};
    const spelled = quote(part === "host" ? (host ?? value) : part === "port" ? (port ?? value) : value);
    const found = split(result)?.findLast((one) => one.key === key);
    if (found !== undefined) result = `${result.slice(0, found.start)}${spelled}${result.slice(found.end)}`;
    else if (!(part === "port" && value === "5432"))
      result = result.replace(/\s*$/, (blanks) => ` ${key}=${spelled}${blanks}`);
  }
  return result;
}

/** Several hosts with their own ports are two lists here. */
function hostsAndPorts({ host = "", port = "5432" }: DsnParts): { host: string; port: string } {
  if (!host.includes(",")) return { host, port };
  const entries = host.split(",").map((entry) => /^(?:\[([^\]]*)\]|([^:]*))(?::(\d+))?$/.exec(entry) ?? []);
  const ports = entries.map(([, , , own]) => own ?? port);
  return {
    host: entries.map(([, bracketed, plain = ""]) => bracketed ?? plain).join(","),
    port: ports.every((one) => one === ports[0]) ? (ports[0] ?? port) : ports.join(","),
  };
}

function split(text: string): Setting[] | undefined {
  const settings: Setting[] = [];
  const form = /\s*([a-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?=\s|$)/gsy;
  let at = 0;
  while (text.slice(at).trim() !== "") {
    form.lastIndex = at;
    const [whole, key = "", raw = ""] = form.exec(text) ?? [];
    if (whole === undefined) return undefined;
    at += whole.length;
    const bare = raw.startsWith("'") ? raw.slice(1, -1) : raw;
    settings.push({ key, value: bare.replaceAll(/\\(.)/gs, "$1"), start: at - raw.length, end: at });
  }
  return settings;
}

function quote(value: string): string {
  return /^[^\s'\\]+$/.test(value) ? value : `'${value.replaceAll(/['\\]/g, "\\$&")}'`;
}

function notConnection(
  where: string,
  what = "it is neither a URL such as postgresql://... nor host=... port=...",
): PgkitError {
  return new PgkitError("config", `${where} is no connection string that can be switched: ${what}`, {
    hint: "write it as postgresql://user:password@host:port/database, with special characters of the password as %XX",
  });
}
