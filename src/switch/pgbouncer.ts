import { PgkitError } from "../lib/errors.ts";
import type { Clock } from "../lib/time.ts";
import type { Connection } from "../postgres/connection.ts";
import { consoleName, type PgBouncerConsole, withPgBouncerConsole } from "../postgres/pgbouncer-console.ts";
import { findEntries, writeEntries } from "./pgbouncer-files.ts";
import { databasesOf, pauseDatabases, resumeDatabases, sessionPooled } from "./pgbouncer-pause.ts";
import { spellAddress, switchConflict } from "./switch-errors.ts";
import { type EndpointAddress, isSameAddress, type Switcher } from "./switcher.ts";

export interface PgBouncerSwitch {
  /** The admin console. */
  readonly admin: Connection;
  /** The entries of `[databases]` that are switched; all lead to one place. */
  readonly databases: readonly string[];
  /** Its configuration file, as this process can write it. Without, it can be paused and not pointed elsewhere. */
  readonly configFile: string | undefined;
}

export interface PgBouncerDeps {
  readonly clock: Clock;
  /** How long a pause waits for what is under way, during which every client of the databases waits too. */
  readonly pauseTimeoutMs?: number | undefined;
}

/** How long PgBouncer may take to show what it has read. */
const reloadTimeoutMs = 5000;

/** Databases of a PgBouncer: paused by its console, pointed elsewhere by its configuration file and `RELOAD`. */
export function pgbouncerSwitcher(config: PgBouncerSwitch, { clock, pauseTimeoutMs = 5000 }: PgBouncerDeps): Switcher {
  const { admin, databases, configFile } = config;
  const address = admin.hosts.map(({ host, port }) => `${host}:${port}`).join(",");
  const where = `PgBouncer at ${address}, database ${databases.join(", ")}`;
  const withConsole = <T>(signal: AbortSignal, use: (desk: PgBouncerConsole) => Promise<T>) =>
    withPgBouncerConsole(admin, signal, use);
  return {
    where,
    kind: "pgbouncer",
    current: (signal) => withConsole(signal, (desk) => shownAddress(desk, databases)),
    pause: (signal) => pauseDatabases({ admin, databases, clock, timeoutMs: pauseTimeoutMs, signal }),
    resume: (signal) => resumeDatabases(admin, databases, signal),
    point: async (from, to, signal) => {
      const file = writable(configFile, where);
      await withConsole(signal, (desk) => point({ desk, databases, file, clock, where, from, to, signal }));
    },
    plan: (to, signal) =>
      withConsole(signal, async (desk) => {
        const entries = configFile === undefined ? undefined : await findEntries(configFile, databases);
        const files = [...new Set(entries?.map(({ path }) => path))];
        const session = await sessionPooled(desk, databases);
        return {
          does: [
            `pauses ${databases.join(", ")} in ${desk.where}`,
            `writes ${spellAddress(to)} into ${files.join(" and ")}, and reloads it`,
          ],
          refusals: configFile === undefined ? [noConfigFile(where)] : [],
          warnings: session.map((database) => ({
            message: `${desk.where} pools ${database} by session: a pause waits until its clients have disconnected`,
            hint: "set pool_mode=transaction for it, or expect errors of clients that stay connected",
          })),
        };
      }),
  };
}

interface Pointing {
  readonly desk: PgBouncerConsole;
  readonly databases: readonly string[];
  readonly file: string;
  readonly clock: Clock;
  readonly where: string;
  readonly from: EndpointAddress;
  readonly to: EndpointAddress;
  readonly signal: AbortSignal;
}

/** The file may lead elsewhere than PgBouncer does, after a kill between the two: both must be at one of the two places. */
async function point(pointing: Pointing): Promise<void> {
  const { desk, databases, file, where, from, to } = pointing;
  const now = await shownAddress(desk, databases);
  if (!isSameAddress(now, from) && !isSameAddress(now, to)) throw switchConflict(where, now, from, to);
  const entries = await findEntries(file, databases);
  for (const { entry, path } of entries) {
    const written = { ...entry, host: entry.host ?? "" };
    if (isSameAddress(written, from) || isSameAddress(written, to)) continue;
    throw switchConflict(`${where}, in ${path},`, written, from, to);
  }
  const putBack = await writeEntries(entries, to);
  try {
    if (!isSameAddress(now, to)) await reload(pointing);
  } catch (error) {
    await putBack();
    await desk.command("RELOAD").catch(() => {
      // The console is gone: what it reads when it comes back is the old file, and that is what the first error is about.
    });
    throw error;
  }
  await leaveOldServers(pointing);
}

async function reload({ desk, databases, file, clock, to, signal }: Pointing): Promise<void> {
  await desk.command("RELOAD");
  const deadlineMs = clock.monotonicMs() + reloadTimeoutMs;
  for (;;) {
    const shown = await shownAddress(desk, databases);
    if (isSameAddress(shown, to)) return;
    if (clock.monotonicMs() > deadlineMs) throw await notRead(desk, file, shown, to);
    await clock.delay(20, signal);
  }
}

/** Whoever is in a transaction on an old connection ends it there; nobody begins one. */
async function leaveOldServers({ desk, databases, clock, where, signal }: Pointing): Promise<void> {
  for (const database of databases) await desk.command(`RECONNECT ${consoleName(database)}`);
  const deadlineMs = clock.monotonicMs() + reloadTimeoutMs;
  for (;;) {
    const servers = await desk.command<{ database: string; close_needed: number }>("SHOW SERVERS");
    const old = servers.filter((server) => databases.includes(server.database) && Number(server.close_needed) === 1);
    if (old.length === 0) return;
    if (clock.monotonicMs() > deadlineMs) {
      throw new PgkitError(
        "switch-failed",
        `${where} still has ${old.length} connections to the old server, which are in use`,
        {
          hint: "end these sessions on the old server, or KILL the database on PgBouncer's admin console, then run it again",
        },
      );
    }
    await clock.delay(20, signal);
  }
}

/** Where PgBouncer itself says that they lead. */
async function shownAddress(desk: PgBouncerConsole, names: readonly string[]): Promise<EndpointAddress> {
  const shown = await databasesOf(desk, names);
  const addresses = shown.map(({ name, host, port, database }) => {
    if (host === null) {
      throw new PgkitError(
        "config",
        `${desk.where} leads ${name} to a Unix socket of its own machine: its entry names no host`,
        {
          hint: `write host= into the entry of ${name}, then RELOAD`,
        },
      );
    }
    return { host, port: Number(port), database };
  });
  const [first] = addresses;
  if (first === undefined) {
    throw new PgkitError("config", `no database of ${desk.where} is named`, {
      hint: "name them in switch.pgbouncer.databases",
    });
  }
  const other = addresses.find((address) => !isSameAddress(address, first));
  if (other === undefined) return first;
  throw new PgkitError(
    "config",
    `${desk.where} leads ${names.join(", ")} to different places: ${spellAddress(first)} and ${spellAddress(other)}`,
    { hint: "name only those of one database in switch.pgbouncer.databases" },
  );
}

async function notRead(
  desk: PgBouncerConsole,
  file: string,
  shown: EndpointAddress,
  to: EndpointAddress,
): Promise<PgkitError> {
  const settings = await desk.command<{ key: string; value: string }>("SHOW CONFIG");
  const own = settings.find(({ key }) => key === "conffile")?.value;
  return new PgkitError(
    "switch-failed",
    `${desk.where} still leads to ${spellAddress(shown)} and not to ${spellAddress(to)} after RELOAD of ${file}, which was put back`,
    {
      hint: `it says that it reads ${own}: name that file, as it is reached from here, in switch.pgbouncer.configFile`,
    },
  );
}

function writable(configFile: string | undefined, where: string): string {
  if (configFile !== undefined) return configFile;
  const { message, hint } = noConfigFile(where);
  throw new PgkitError("config", message, { hint });
}

function noConfigFile(where: string): { message: string; hint: string } {
  return {
    message: `${where} can be paused and not pointed elsewhere: its configuration file is not named`,
    hint: "set switch.pgbouncer.configFile to the file that PgBouncer reads, and run pgkit where it can be written",
  };
}
