import { chmod, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import pg from "pg";
import { startServer } from "../../src/postgres/server.ts";
import { archive, type BaseJson } from "../backup/base-support.ts";
import type { Ran } from "../cli/run.ts";
import { type Cluster, type ClusterOptions, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { type Pgkit, pgkitFor } from "../support/pgkit.ts";

/** A server whose WAL goes to a repository, and what is restored from it. */
export interface Pitr {
  cluster: Cluster;
  pgkit: Pgkit;
  /** A base backup, with its WAL stored while it waits for that. */
  backUp(...args: string[]): Promise<BaseJson>;
  /** Ends the segment and stores all that is there. */
  storeAll(): Promise<void>;
  /** Writes a row in a transaction of its own, and tells where that is. */
  write(name: string): Promise<Written>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface Written {
  xid: string;
  /** Of the commit: RFC 3339 UTC to the microsecond. */
  committedAt: string;
  /** A moment after it, and the position then. */
  after: string;
  lsn: string;
}

/** For archive_command: a file appears in the folder only when it is whole. */
export const archiveInto = (folder: string) =>
  `mkdir -p ${folder} ${folder}.draft && cp %p ${folder}.draft/%f && mv ${folder}.draft/%f ${folder}/%f`;

const utc = (sql: string) => `to_char(${sql} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;

export async function startPitr(options: ClusterOptions = {}, extra: readonly string[] = []): Promise<Pitr> {
  const settings = {
    archive_mode: "on",
    archive_command: archiveInto("../archive"),
    wal_level: "replica",
    track_commit_timestamp: "on",
    ...options.settings,
  };
  const cluster = await startCluster({ ...options, settings });
  const pgkit = await pgkitFor({ shared: { cluster } }, extra);
  await cluster.psql("CREATE TABLE written (name text PRIMARY KEY)");
  const store = async () => void (await archive(cluster, pgkit));
  return {
    ...{ cluster, pgkit },
    backUp: async (...args) => {
      const backup = pgkit.json<{ backups: BaseJson[] }>(["backup", "base", ...args]);
      let done = false;
      const storing = eventually(async () => {
        await store();
        if (!done) throw new Error("the backup waits for its WAL");
      }, 300_000);
      const { backups } = await backup.finally(() => {
        done = true;
      });
      await storing;
      const [first] = backups;
      if (first === undefined) throw new Error("no backup was made");
      return first;
    },
    storeAll: async () => {
      const wal = await cluster.psql("SELECT pg_walfile_name(pg_switch_wal())");
      await eventually(async () => await readFile(join(dirname(cluster.dataDir), "archive", wal)));
      await store();
    },
    write: async (name) => {
      const xid = await cluster.psql(`INSERT INTO written VALUES ('${name}') RETURNING pg_current_xact_id()`);
      const committed = utc(`pg_xact_commit_timestamp('${xid}'::xid)`);
      const row = await cluster.psql(`SELECT ${committed}, ${utc("clock_timestamp()")}, pg_current_wal_insert_lsn()`);
      const [committedAt = "", after = "", lsn = ""] = row.split("|");
      return { xid, committedAt, after, lsn };
    },
    [Symbol.asyncDispose]: async () => {
      await cluster[Symbol.asyncDispose]();
      await pgkit[Symbol.asyncDispose]();
    },
  };
}

export interface Restored {
  json: {
    backup: string;
    reached: { time?: string; lsn: string; timeline: number };
    recovery: string;
    dataDir: string;
  };
  dataDir: string;
  /** The names that are there when a plain server of the same major opens the directory. */
  names: string;
  /** Files and settings of pgkit that are left in the directory. */
  leftovers: string[];
}

/** Restores with `--start`, and opens what came of it by the server's own program alone. */
export async function restoreAndOpen(pitr: Pitr, ...args: string[]): Promise<Restored> {
  await using place = await newPlace();
  const json = await pitr.pgkit.json<Restored["json"]>(["restore", "--data-dir", place.dataDir, "--start", ...args]);
  const names = await openedNames(pitr.cluster, place.dataDir);
  return { json, dataDir: place.dataDir, names, leftovers: await leftoversIn(place.dataDir) };
}

/** Restores, and gives how pgkit refused it. */
export async function restoreRefused(
  pitr: Pitr,
  ...args: string[]
): Promise<Ran & { dataDir: string; files: string[] }> {
  await using place = await newPlace();
  const ran = await pitr.pgkit.run(["restore", "--data-dir", place.dataDir, ...args]);
  return { ...ran, dataDir: place.dataDir, files: await readdir(place.dataDir).catch(() => []) };
}

export async function newPlace() {
  const folder = await mkdtemp(join(tmpdir(), "pgkit-restore-"));
  // The server's user passes through.
  await chmod(folder, 0o711);
  return {
    dataDir: join(folder, "data"),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

export async function openedNames(cluster: Cluster, dataDir: string): Promise<string> {
  const { binDir, runAs, superuser: user, password } = cluster;
  const server = await startServer({ binDir, dataDir, runAs, settings: { archive_command: "false" } });
  const client = new pg.Client({ host: server.socketDir, port: server.port, user, password, database: "postgres" });
  try {
    await client.connect();
    const { rows } = await client.query("SELECT string_agg(name, '' ORDER BY name) AS names FROM written");
    return rows[0].names ?? "";
  } finally {
    await client.end();
    await server.stop("immediate");
  }
}

async function leftoversIn(dataDir: string): Promise<string[]> {
  const [auto, names] = await Promise.all([
    readFile(join(dataDir, "postgresql.auto.conf"), "utf8"),
    readdir(dataDir, { recursive: true }),
  ]);
  const lines = auto.split("\n").filter((line) => /pgkit|restore_command|recovery_target/.test(line));
  return [...lines, ...names.filter((name) => /pgkit|\.signal$/.test(name))];
}
