import { PgkitError } from "../lib/errors.ts";
import { secret } from "../lib/secret.ts";
import { parseEndpointUrl, pointEndpointUrl, type UrlContext } from "./endpoint-url.ts";
import { type Endpoint, isSameAddress } from "./switcher.ts";

/** The keys of a Secret or an env file that hold an endpoint: as one URL, in parts, or both. */
export interface EndpointKeys {
  readonly url?: string | undefined;
  readonly host?: string | undefined;
  readonly port?: string | undefined;
  readonly user?: string | undefined;
  readonly password?: string | undefined;
  readonly database?: string | undefined;
}

export interface KeysContext extends Pick<UrlContext, "keep"> {
  /** What holds the keys: `the env file /etc/litellm/app.env`. */
  readonly where: string;
  /** The database where no key names it. */
  readonly database: string;
}

/**
 * The endpoint that these values hold. A port that no key names is 5432. Fails with `config` where a key is missing, where
 * a value cannot be read, and where the URL and the parts lead to different places.
 */
export function endpointOfKeys(
  values: ReadonlyMap<string, string>,
  keys: EndpointKeys,
  context: KeysContext,
): Endpoint {
  const { where, keep } = context;
  for (const [part, key] of Object.entries(keys)) {
    if (key !== undefined && !values.has(key)) {
      throw new PgkitError("config", `${where} has no key ${key}, which is to hold the ${part}`, {
        hint: `it has: ${[...values.keys()].join(", ") || "no key at all"}`,
      });
    }
  }
  const url =
    keys.url === undefined
      ? undefined
      : parseEndpointUrl(values.get(keys.url) ?? "", { where: `${keys.url} of ${where}`, keep });
  const parts = partsOf(values, keys, context, url);
  if (url === undefined) return parts;
  if (isSameAddress(url, parts)) return { ...parts, ...url };
  throw new PgkitError(
    "config",
    `${where} leads to two places: ${keys.url} to ${spell(url)}, its other keys to ${spell(parts)}`,
    { hint: "make them agree, or name only those in switch: that the application reads" },
  );
}

/** The keys whose values must change to lead to `to`, with their new values. None where it leads there already. */
export function changesOfKeys(
  values: ReadonlyMap<string, string>,
  keys: EndpointKeys,
  to: Endpoint,
  context: KeysContext,
): Map<string, string> {
  const now = endpointOfKeys(values, keys, context);
  const changes = new Map<string, string>();
  const set = (key: string | undefined, value: string | undefined) => {
    if (key !== undefined && value !== undefined && value !== values.get(key)?.trim()) changes.set(key, value);
  };
  if (keys.url !== undefined) {
    set(keys.url, pointEndpointUrl(values.get(keys.url) ?? "", to, { where: `${keys.url} of ${context.where}` }));
    // Blanks around a URL stay.
    if (changes.get(keys.url) === values.get(keys.url)) changes.delete(keys.url);
  } else {
    if (keys.port === undefined && to.port !== now.port) throw noKey(context, "port", String(to.port));
    if (keys.database === undefined && to.database !== now.database) throw noKey(context, "database", to.database);
  }
  set(keys.host, to.host);
  set(keys.port, String(to.port));
  set(keys.database, to.database);
  set(keys.user, to.user);
  set(keys.password, to.password?.reveal());
  return changes;
}

function partsOf(
  values: ReadonlyMap<string, string>,
  keys: EndpointKeys,
  context: KeysContext,
  url: Endpoint | undefined,
): Endpoint {
  const { keep = secret, where } = context;
  const trimmed = (key: string | undefined) => (key === undefined ? undefined : values.get(key)?.trim());
  const host = trimmed(keys.host) ?? url?.host;
  if (host === undefined)
    throw new PgkitError("config", `${where}: its switch names neither a url nor a host key`, {
      hint: "add keys: { url: DATABASE_URL } or keys: { host: DB_HOST, port: DB_PORT }",
    });
  const port = trimmed(keys.port);
  if (host === "" || (port !== undefined && !isPort(port))) {
    const [key, what] = host === "" ? [keys.host, "is empty"] : [keys.port, `is no port: ${port}`];
    throw new PgkitError("config", `the value of ${key} of ${where} ${what}`, {
      hint: `set it to where the application's database is`,
    });
  }
  const user = trimmed(keys.user);
  const password = keys.password === undefined ? undefined : values.get(keys.password);
  return {
    host,
    port: port === undefined ? (url?.port ?? 5432) : Number(port),
    database: trimmed(keys.database) ?? url?.database ?? context.database,
    ...(user === undefined ? {} : { user }),
    ...(password === undefined ? {} : { password: keep(password) }),
  };
}

function isPort(text: string): boolean {
  return /^\d{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65_535;
}

function noKey({ where }: KeysContext, part: string, value: string): PgkitError {
  return new PgkitError("config", `${where} would have to hold the ${part} ${value}, and no key of its switch does`, {
    hint: `name the key that holds the ${part} in keys: of the switch`,
  });
}

function spell({ host, port, database }: Endpoint): string {
  return `${host}:${port}/${database}`;
}
