import { readFile, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { PgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import type { Secret, SecretVault } from "../lib/secret.ts";
import { type Connection, parseConnection } from "../postgres/connection.ts";
import type { ReadSecret } from "./command.ts";
import type { InstanceConfig, PasswordSource } from "./config.ts";

export interface PasswordInput {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly cwd: string;
  readonly vault: SecretVault;
  readonly report: Report;
  readonly signal: AbortSignal;
  readonly readSecret: ReadSecret;
}

/** An instance's address with its password: the configured one, else that of the password file, else none. */
export async function connectionTo(instance: InstanceConfig, input: PasswordInput): Promise<Connection> {
  const connection = parseConnection(instance.url, undefined);
  const password =
    instance.passwordFrom === undefined
      ? await fromPasswordFile(connection, input)
      : await fromSource(instance.passwordFrom, instance.name, input);
  const source = instance.passwordFrom;
  if (source?.type !== "secret" && source?.type !== "file") return { ...connection, password };
  // Both are changed under a run that goes on for days: a Secret mounted as a file too.
  return { ...connection, ...renewable(password, () => fromSource(source, instance.name, input)) };
}

function renewable(
  first: Secret | undefined,
  read: () => Promise<Secret>,
): Pick<Connection, "password" | "renewPassword"> {
  let current = first?.reveal() ?? "";
  return {
    password: { reveal: () => current },
    async renewPassword() {
      const before = current;
      current = (await read()).reveal();
      return current !== before;
    },
  };
}

async function fromSource(source: PasswordSource, instance: string, input: PasswordInput): Promise<Secret> {
  if (source.type === "known") return source.password;
  if (source.type === "secret") return input.vault.keep(await input.readSecret(source.secret, input.signal));
  const what = `the password of instance ${instance}`;
  if (source.type === "env") {
    const text = input.env[source.variable];
    if (text !== undefined && text !== "") return input.vault.keep(text);
    throw new PgkitError("config", `${what} should be in the variable ${source.variable}, which is not set`, {
      hint: `set ${source.variable} for pgkit, or name a file by passwordFrom.file`,
    });
  }
  const text = await readFile(source.path, "utf8").catch((cause: NodeJS.ErrnoException) => {
    throw new PgkitError("config", `${what} should be in ${source.path}, which cannot be read: ${cause.code}`, {
      hint: "is the path right, and may the user that pgkit runs as read it?",
      cause,
    });
  });
  const password = text.replace(/\r?\n$/, "");
  if (password !== "") return input.vault.keep(password);
  throw new PgkitError("config", `${what} should be in ${source.path}, which is empty`, {
    hint: "write the password into it, with nothing else but a line end",
  });
}

/** As libpq does: https://www.postgresql.org/docs/current/libpq-pgpass.html */
async function fromPasswordFile(connection: Connection, input: PasswordInput): Promise<Secret | undefined> {
  const { env, cwd, report, vault } = input;
  const home = env["HOME"] || homedir();
  const path = resolve(cwd, connection.parameters["passfile"] ?? (env["PGPASSFILE"] || join(home, ".pgpass")));
  const found = await stat(path).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT" || cause.code === "ENOTDIR") return undefined;
    throw new PgkitError("config", `the password file ${path} cannot be read: ${cause.code}`, {
      hint: "is the path right, and may the user that pgkit runs as read it?",
      cause,
    });
  });
  if (found === undefined || !found.isFile()) return undefined;
  if ((found.mode & 0o077) !== 0) {
    report({ type: "warning", message: `${path} is ignored: others may read it`, hint: `chmod 600 ${path}` });
    return undefined;
  }
  const password = lookUp(await readFile(path, "utf8"), connection);
  return password === undefined ? undefined : vault.keep(password);
}

/** The password of the first line `host:port:database:user:password` that fits one of the hosts; `*` fits all. */
export function lookUp(passwordFile: string, connection: Connection): string | undefined {
  const lines = passwordFile.split(/\r?\n/).filter((line) => line !== "" && !line.startsWith("#"));
  for (const { host, port } of connection.hosts) {
    // libpq looks up the socket's folder as "localhost" when it is the usual one.
    const hosts = host === "/var/run/postgresql" || host === "/tmp" ? [host, "localhost"] : [host];
    for (const line of lines) {
      const [lineHost = "", linePort = "", database = "", user = "", password] = fields(line);
      const fits = (field: string, wanted: string) => field === "*" || field === wanted;
      if (!hosts.some((each) => fits(lineHost, each)) || !fits(linePort, String(port))) continue;
      if (fits(database, connection.database) && fits(user, connection.user)) return password;
    }
  }
  return undefined;
}

/** Split at colons; `\:` and `\\` stand for the characters themselves. */
function fields(line: string): string[] {
  const parts = line.match(/(?:\\.|[^:\\])*(?::|$)/g) ?? [];
  const [host = "", port = "", database = "", user = "", ...rest] = parts;
  return [host, port, database, user]
    .map((part) => part.replace(/:$/, ""))
    .concat(rest.join(""))
    .map((part) => part.replaceAll(/\\(.)/g, "$1"));
}
