import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { formatDuration } from "../lib/parse.ts";
import type { Clock } from "../lib/time.ts";
import type { Connection } from "../postgres/connection.ts";
import { consoleName, type PgBouncerConsole, withPgBouncerConsole } from "../postgres/pgbouncer-console.ts";

/** A row of SHOW DATABASES. */
export interface ShownDatabase {
  readonly name: string;
  readonly host: string | null;
  readonly port: number;
  readonly database: string;
  readonly pool_mode: string | null;
  /** 1 from PAUSE on, also while it still waits. */
  readonly paused: number;
}

/** What PgBouncer says of these databases. Fails with `config` where it knows one of them not. */
export async function databasesOf(desk: PgBouncerConsole, names: readonly string[]): Promise<ShownDatabase[]> {
  const shown = await desk.command<ShownDatabase>("SHOW DATABASES");
  return names.map((name) => {
    const found = shown.find((one) => one.name === name);
    if (found !== undefined) return found;
    const known = shown.flatMap((one) => (one.name === "pgbouncer" ? [] : [one.name]));
    throw new PgkitError("config", `${desk.where} has no database ${name}`, {
      hint: `it has: ${known.join(", ") || "none"}; an entry of its own is needed where it goes by the entry *`,
    });
  });
}

/** Those of the databases that hold a server connection for as long as a client stays. */
export async function sessionPooled(desk: PgBouncerConsole, names: readonly string[]): Promise<string[]> {
  const databases = await databasesOf(desk, names);
  const settings = await desk.command<{ key: string; value: string }>("SHOW CONFIG");
  const standard = settings.find(({ key }) => key === "pool_mode")?.value;
  return databases.filter(({ pool_mode }) => (pool_mode ?? standard) === "session").map(({ name }) => name);
}

export interface Pausing {
  readonly admin: Connection;
  readonly databases: readonly string[];
  readonly clock: Clock;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** Holds the clients back, and waits until what is under way has ended. Where that fails, they go on. */
export async function pauseDatabases(pausing: Pausing): Promise<void> {
  const { admin, databases, clock, timeoutMs, signal } = pausing;
  await withPgBouncerConsole(admin, signal, (desk) => databasesOf(desk, databases));
  const done = new AbortController();
  const late = new AbortController();
  const timer = clock.delay(timeoutMs, done.signal).then(
    () => late.abort(new PgkitError("switch-failed", "the pause took too long")),
    () => undefined,
  );
  const both = AbortSignal.any([signal, late.signal]);
  try {
    // PAUSE returns when it holds; given again it waits again, so that a cut one can be repeated.
    const pauses = databases.map((name) =>
      withPgBouncerConsole(admin, both, (desk) => desk.command(`PAUSE ${consoleName(name)}`)),
    );
    const failed = (await Promise.allSettled(pauses)).find((one) => one.status === "rejected");
    if (failed !== undefined) throw failed.reason;
  } catch (error) {
    const told = late.signal.aborted && !signal.aborted ? await tooLong(pausing) : error;
    // PgBouncer goes on waiting for a console that is gone. One that does not answer holds nobody back.
    await resumeDatabases(admin, databases, new AbortController().signal).catch((failure: unknown) => {
      if (!isPgkitError(failure, "switch-unreachable")) throw failure;
    });
    throw told;
  } finally {
    done.abort();
    await timer;
  }
}

/** Lets the clients go on; those that are not held back too. */
export async function resumeDatabases(admin: Connection, names: readonly string[], signal: AbortSignal): Promise<void> {
  await withPgBouncerConsole(admin, signal, async (desk) => {
    for (const { name, paused } of await databasesOf(desk, names)) {
      if (Number(paused) === 0) continue;
      await desk.command(`RESUME ${consoleName(name)}`).catch((error: unknown) => {
        // Somebody else was quicker.
        if (!(error instanceof PgkitError && /is not paused/.test(error.message))) throw error;
      });
    }
  });
}

async function tooLong({ admin, databases, timeoutMs, signal }: Pausing): Promise<PgkitError> {
  return await withPgBouncerConsole(admin, signal, async (desk) => {
    const servers = await desk.command<{ database: string; state: string }>("SHOW SERVERS");
    const busy = servers.filter((server) => databases.includes(server.database) && server.state !== "idle").length;
    const session = await sessionPooled(desk, databases);
    const waited = `${desk.where} could not pause ${databases.join(", ")} within ${formatDuration(timeoutMs)}: ${busy} server connections are still in use`;
    return session.length > 0
      ? new PgkitError("switch-failed", `${waited}, pooled by session (${session.join(", ")})`, {
          hint: "clients must disconnect, or set pool_mode=transaction; nobody is held back any more",
        })
      : new PgkitError("switch-failed", waited, {
          hint: "end long transactions (SHOW SERVERS on its admin console, pg_stat_activity on the server), then run it again; nobody is held back any more",
        });
  });
}
