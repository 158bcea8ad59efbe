import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type Archiver, archiveBy, ourselves, theOther } from "./archivers.ts";
import { makeBig } from "./logical.ts";
import type { Contender } from "./measure.ts";
import type { Place } from "./places.ts";
import { compare, type Row } from "./rows.ts";
import type { BenchServer } from "./server.ts";

const peer = "pgbackrest";
export const archivingOn = { archive_mode: "on", summarize_wal: "on" };

/** Base backups and their restore, each contender archiving by its own command meanwhile. */
export async function baseBackups(
  server: BenchServer,
  place: Place,
  { incremental }: { incremental: boolean },
): Promise<Row[]> {
  await makeBig(server);
  await server.restart(archivingOn);
  const size = (await server.sql("SELECT pg_size_pretty(sum(pg_database_size(oid))) FROM pg_database")).trim();
  const archivers = new Map<string, Archiver>();
  const rows = [await backups(server, place, archivers, size), await restores(server, place, archivers)];
  if (incremental) rows.push(await incrementals(server, place, archivers));
  await archiveBy(server, "");
  for (const archiver of archivers.values()) await archiver.remove();
  await server.restart({});
  return rows;
}

async function backups(server: BenchServer, place: Place, archivers: Map<string, Archiver>, size: string) {
  let count = 0;
  const contender = (name: string, make: typeof ourselves, args: readonly string[]): Contender => ({
    name,
    reset: async () => {
      await archiveBy(server, "");
      await archivers.get(name)?.remove();
      const archiver = await make(server, place, `${name}-${++count}`);
      archivers.set(name, archiver);
      await ready(server, archiver);
    },
    run: () => takeTurn(archivers, name, args),
  });
  return await compare(`base backup to ${place.where}`, peer, 0.75, size, [
    contender("peer", theOther, ["backup", "--type=full"]),
    contender("pgkit", ourselves, ["backup", "base", "--quiet"]),
  ]);
}

async function restores(server: BenchServer, place: Place, archivers: Map<string, Archiver>): Promise<Row> {
  const dir = join(server.folder, "restored");
  const reset = async () => {
    await rm(dir, { recursive: true, force: true });
    await server.asServer("/bin/mkdir", ["-m", "700", dir]);
    await server.shell("sync");
  };
  await archiveBy(server, "");
  const row = await compare(`restore of it from ${place.where}, verified`, peer, 0.9, "", [
    { name: "peer", reset, run: () => takeTurn(archivers, "peer", [`--pg1-path=${dir}`, "restore"]) },
    {
      name: "pgkit",
      reset,
      run: () => takeTurn(archivers, "pgkit", ["restore", "--data-dir", dir, "--immediate", "--yes", "--quiet"]),
    },
  ]);
  await rm(dir, { recursive: true, force: true });
  return row;
}

async function incrementals(server: BenchServer, place: Place, archivers: Map<string, Archiver>): Promise<Row> {
  let made = 0;
  const contender = (name: string, args: readonly string[]): Contender => {
    let taken = 0;
    return {
      name,
      reset: async () => {
        await archiveBy(server, "");
        if (++taken > made) await change(server, ++made);
        await ready(server, archiverOf(archivers, name));
      },
      run: () => takeTurn(archivers, name, args),
    };
  };
  return await compare(
    `incremental base backup to ${place.where} after a change of 1 %`,
    `${peer} --type=incr`,
    0.5,
    "",
    [contender("peer", ["backup", "--type=incr"]), contender("pgkit", ["backup", "base", "--incremental", "--quiet"])],
  );
}

/** The newest rows of each table, which each time are others: one in a hundred. */
async function change(server: BenchServer, time: number): Promise<void> {
  const part = (key: string, table: string) => {
    const at = (from: number) => `(SELECT min(${key}) + (max(${key}) - min(${key})) * ${from} FROM ${table})`;
    return `${key} > ${at(1 - time / 100)} AND ${key} <= ${at(1 - (time - 1) / 100)}`;
  };
  await server.sql(
    `UPDATE messages SET author = author + 1 WHERE ${part("id", "messages")};
     UPDATE events SET kind = 'changed' WHERE ${part("id", "events")};
     UPDATE accounts SET balance = balance + 1 WHERE ${part("id", "accounts")};
     UPDATE sessions SET agent = 'changed' WHERE ${part("seen", "sessions")}`,
    "big",
  );
}

/** All that is written is on the disk and archived before the clock starts. */
async function ready(server: BenchServer, archiver: Archiver): Promise<void> {
  await archiveBy(server, archiver.archiveCommand);
  await server.sql("CHECKPOINT");
  await server.shell(
    `psql -XqAtc 'SELECT pg_switch_wal()'; for i in {1..600}; do
       [ -n "$(find ${server.dataDir}/pg_wal/archive_status -name '*.ready')" ] || break; sleep 0.1; done; sync`,
  );
}

async function takeTurn(archivers: Map<string, Archiver>, name: string, args: readonly string[]) {
  return await archiverOf(archivers, name).run(...args);
}

export function archiverOf(archivers: ReadonlyMap<string, Archiver>, name: string): Archiver {
  const archiver = archivers.get(name);
  if (archiver === undefined) throw new Error(`${name} has no repository yet`);
  return archiver;
}
