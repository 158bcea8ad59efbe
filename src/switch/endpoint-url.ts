import { PgkitError } from "../lib/errors.ts";
import { type Secret, secret } from "../lib/secret.ts";
import { type DsnParts, pointDsn, readDsn } from "./endpoint-dsn.ts";
import type { Endpoint } from "./switcher.ts";

export interface UrlContext {
  /** What holds the text, for messages: `DATABASE_URL in /etc/litellm/app.env`. The text itself is in none of them. */
  readonly where: string;
  /** Wraps the password that is found; the vault's, where the run has one. */
  readonly keep?: ((text: string) => Secret) | undefined;
}

/**
 * Where a connection URL or DSN leads: `postgresql://`, `postgres://`, also with a driver (`postgresql+asyncpg://`) or
 * behind a prefix (`jdbc:postgresql://`), and libpq's `host=... port=...`. Several hosts are one `host` with commas, each
 * with its port where those differ; `port` is the first one's. Fails with `config`.
 */
export function parseEndpointUrl(text: string, { where, keep = secret }: UrlContext): Endpoint {
  const url = splitUrl(text);
  const parts = url === undefined ? readDsn(text, where) : readUrl(url, where);
  const { host, port, user, password } = parts;
  if (host === undefined || host === "") throw unusable(where, "it names no host");
  const database = parts.database || user;
  if (database === undefined) throw unusable(where, "it names neither a database nor a user");
  return {
    ...hostAndPort(host, port, where),
    database,
    ...(user === undefined ? {} : { user }),
    ...(password === undefined ? {} : { password: keep(password) }),
  };
}

/**
 * The text with another host, port and database, and every other byte as it was; user and password too where `to` has
 * them. A part that is right already stays as it is spelled. Fails with `config`.
 */
export function pointEndpointUrl(text: string, to: Endpoint, { where }: UrlContext): string {
  const now = parseEndpointUrl(text, { where });
  const changes: DsnParts = {
    ...(to.host === now.host && to.port === now.port ? {} : { host: to.host, port: String(to.port) }),
    ...(to.database === now.database ? {} : { database: to.database }),
    ...(to.user === undefined || to.user === now.user ? {} : { user: to.user }),
    ...(to.password === undefined || to.password.reveal() === now.password?.reveal()
      ? {}
      : { password: to.password.reveal() }),
  };
  const url = splitUrl(text);
  return url === undefined ? pointDsn(text, changes) : joinUrl(changeUrl(url, changes));
}

/** A URL cut where its parts meet: joined again they are the same bytes. */
interface UrlParts {
  /** With the `://`, and blanks before it. */
  readonly scheme: string;
  readonly user: string | undefined;
  readonly password: string | undefined;
  readonly hosts: string;
  /** Without the `/`. */
  readonly path: string | undefined;
  readonly parameters: readonly string[] | undefined;
  /** Blanks: a Secret made by `echo` ends in a newline. */
  readonly end: string;
}

const schemes =
  /^(\s*(?:[a-z0-9_.-]+:)*(?:postgres(?:ql)?|pgsql|psql|postgis|ecto)(?:\+[a-z0-9_]+)?:\/\/)([^/?\s]*)(?:\/([^?\s]*))?(?:\?(\S*))?(\s*)$/i;

function splitUrl(text: string): UrlParts | undefined {
  const [whole, scheme = "", authority = "", path, query, end = ""] = schemes.exec(text) ?? [];
  if (whole === undefined) return undefined;
  // A password with an @ that is not escaped: hosts have none, so the last one is the separator.
  const at = authority.lastIndexOf("@");
  const login = at < 0 ? undefined : authority.slice(0, at);
  const colon = login?.indexOf(":") ?? -1;
  return {
    ...{ scheme, path, end, hosts: authority.slice(at + 1), parameters: query?.split("&") },
    user: colon < 0 ? login : login?.slice(0, colon),
    password: colon < 0 ? undefined : login?.slice(colon + 1),
  };
}

function joinUrl({ scheme, user, password, hosts, path, parameters, end }: UrlParts): string {
  const login = user === undefined ? "" : `${user}${password === undefined ? "" : `:${password}`}@`;
  const query = parameters === undefined ? "" : `?${parameters.join("&")}`;
  return `${scheme}${login}${hosts}${path === undefined ? "" : `/${path}`}${query}${end}`;
}

/** As libpq reads it: a parameter stands over the same part of the address. */
function readUrl(url: UrlParts, where: string): DsnParts {
  const given = (...names: string[]) => {
    const found = (url.parameters ?? []).filter((one) => names.includes(nameOf(one)));
    if (found.length > 1)
      throw unusable(where, `its parameter ${nameOf(found[0] ?? "")} stands there ${found.length} times`);
    return found[0] === undefined ? undefined : decoded(found[0].slice(found[0].indexOf("=") + 1), where);
  };
  for (const name of ["hostaddr", "service"]) {
    if (given(name) !== undefined) throw unusable(where, `its ${name} would stand over a new host`);
  }
  const host = given("host");
  if (host !== undefined && /^[^:/]+:\d+$/.test(host)) throw unusable(where, "its parameter host holds a port too");
  const port = given("port");
  const list = splitHosts(url.hosts, where);
  return {
    host: host ?? list.host,
    port: port ?? (host === undefined ? list.port : undefined),
    database: given("dbname") ?? (url.path === undefined ? undefined : decoded(url.path, where)),
    user: given("user") ?? (url.user ? decoded(url.user, where) : undefined),
    password: given("password") ?? (url.password ? decoded(url.password, where) : undefined),
  };
}

function changeUrl(url: UrlParts, changes: DsnParts): UrlParts {
  const parameters = [...(url.parameters ?? [])];
  /** True where the part stands among the parameters, and is changed there. */
  const inParameters = (name: string, value: string) => {
    const index = parameters.findIndex((one) => nameOf(one) === name);
    if (index >= 0) parameters[index] = `${name}=${escaped(value)}`;
    return index >= 0;
  };
  const { host, port = "5432", database, user, password } = changes;
  let { hosts, path } = url;
  if (host !== undefined) {
    const moved = { host: inParameters("host", host), port: inParameters("port", port) };
    if (!moved.host) hosts = moved.port ? spellHosts(host) : spellHosts(host, port, url.hosts);
    // Ports in front go with the host in front, which does not count any more.
    else if (!moved.port) parameters.push(`port=${port}`);
  }
  if (database !== undefined && !inParameters("dbname", database)) path = escaped(database);
  return {
    ...{ ...url, hosts, path },
    user: user === undefined || inParameters("user", user) ? url.user : escaped(user),
    password: password === undefined || inParameters("password", password) ? url.password : escaped(password),
    parameters: url.parameters === undefined ? undefined : parameters,
  };
}

/** The default port stays unsaid where it was. */
function spellHosts(host: string, port?: string, before?: string): string {
  const silent = port === undefined || (port === "5432" && before !== undefined && !/:\d+$/.test(before));
  return host
    .split(",")
    .map((one, _, all) => {
      const name = all.length > 1 ? one : spellHost(one);
      return silent || /^(\[.*\]|[^:]*):\d+$/.test(name) ? name : `${name}:${port}`;
    })
    .join(",");
}

function spellHost(host: string): string {
  if (host.startsWith("/")) return escaped(host);
  return host.includes(":") ? `[${host}]` : host;
}

/** `undefined` ports are the default; those that differ stay with their hosts. */
function splitHosts(list: string, where: string): { host: string | undefined; port: string | undefined } {
  if (list === "") return { host: undefined, port: undefined };
  const hosts = list.split(",").map((entry) => {
    const [, bracketed, plain, port] = /^(?:\[([^\]]*)\]|([^:[\]]*))(?::(\d*))?$/.exec(entry) ?? [];
    const name = bracketed ?? plain;
    if (name === undefined) throw unusable(where, "what should be its host and port is neither");
    return { name: decoded(name, where), spelled: entry.replace(/:\d*$/, ""), port: port || "5432" };
  });
  const [first] = hosts;
  if (hosts.length === 1) return { host: first?.name, port: first?.port };
  const same = hosts.every(({ port }) => port === first?.port);
  return {
    host: hosts.map(({ spelled, port }) => (same ? spelled : `${spelled}:${port}`)).join(","),
    port: first?.port,
  };
}

function hostAndPort(host: string, port: string | undefined, where: string): { host: string; port: number } {
  const ports = (port ?? "5432").split(",");
  const hosts = host.split(",");
  const numbers = ports.map((one) => (/^\d{1,5}$/.test(one) ? Number(one) : 0));
  const [first = 0] = numbers;
  if (numbers.some((number) => number < 1 || number > 65_535))
    throw unusable(where, "its port is not a number from 1 to 65535");
  if (numbers.every((number) => number === first)) return { host, port: first };
  return { host: hosts.map((one, index) => `${one}:${numbers[index] ?? first}`).join(","), port: first };
}

function nameOf(parameter: string): string {
  return parameter.split("=", 1)[0] ?? "";
}

/** Also what a quoted value in a file could not hold. */
function escaped(text: string): string {
  return encodeURIComponent(text).replaceAll("'", "%27");
}

function decoded(text: string, where: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    throw unusable(where, "it holds a % that does not stand for a character");
  }
}

function unusable(where: string, what: string): PgkitError {
  return new PgkitError("config", `${where} is no connection URL that can be switched: ${what}`, {
    hint: "postgresql://user:password@host:port/database, with special characters of the password as %XX",
  });
}
