import { execFile } from "node:child_process";
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { systemClock } from "../../src/lib/time.ts";
import { type RunningServer, startServer } from "../../src/postgres/server.ts";
import { createLineage, putWal } from "../../src/repo/wal.ts";
import { fileStore } from "../../src/store/file.ts";
import { repositoryIn } from "../repo/support.ts";
import type { Cluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import type { Pgkit } from "../support/pgkit.ts";

const run = promisify(execFile);

export interface BaseJson {
  id: string;
  kind: string;
  instance: string;
  repository: string;
  parent?: string;
  startedAt: string;
  wal: { timeline: number; startLsn: string; stopLsn: string };
}

export async function backUp(pgkit: Pgkit, ...args: string[]): Promise<BaseJson> {
  const { backups } = await pgkit.json<{ backups: BaseJson[] }>(["backup", "base", ...args]);
  const [first] = backups;
  if (first === undefined) throw new Error("no backup was made");
  return first;
}

/** The folder of a backup's files. */
export function filesOf(pgkit: Pgkit, { id, instance }: BaseJson): string {
  return join(pgkit.repository, "files", instance, id);
}

export async function manifestOf(pgkit: Pgkit, { id, instance }: BaseJson) {
  const text = await readFile(join(pgkit.repository, "backups", instance, `${id}.json`), "utf8");
  return JSON.parse(text);
}

/** The ids of all backups of the instance. */
export async function listed(pgkit: Pgkit): Promise<string[]> {
  const { backups } = await pgkit.json<{ backups: BaseJson[] }>(["list"]);
  return backups.map(({ id }) => id);
}

/** Unpacks a backup by zstd and tar alone into a new folder, its tablespaces into `tablespaces`; the caller removes it. */
export async function unpack(pgkit: Pgkit, base: BaseJson): Promise<string> {
  const folder = filesOf(pgkit, base);
  const dir = await mkdtemp(join(tmpdir(), "pgkit-base-"));
  await run("sh", ["-c", `zstd -qdc ${folder}/base.tar.zst | tar -C ${dir} -x`]);
  await run("sh", ["-c", `zstd -qdc ${folder}/backup_manifest.zst > ${dir}/backup_manifest`]);
  for (const name of await readdir(folder)) {
    const oid = /^(\d+)\.tar\.zst$/.exec(name)?.[1];
    if (oid === undefined) continue;
    const place = join(dir, "pg_tblspc", oid);
    await rm(place, { force: true });
    await mkdir(place, { recursive: true });
    await run("sh", ["-c", `zstd -qdc ${folder}/${name} | tar -C ${place} -x`]);
  }
  return dir;
}

/** Fails with what pg_verifybackup says of a backup, which must have its WAL inside or `-n`. */
export async function verifyBackup(cluster: Cluster, pgkit: Pgkit, base: BaseJson, ...args: string[]): Promise<void> {
  const dir = await unpack(pgkit, base);
  await run(join(cluster.binDir, "pg_verifybackup"), [...args, dir]);
  await rm(dir, { recursive: true });
}

/** What archive_command is to be so that segments wait in a folder until `archive` is told to store them. */
export const archiving = { archive_mode: "on", archive_command: "mkdir -p ../archive && cp %p ../archive/%f" };

/** Stores what the server has archived so far, as an archiver would. */
export async function archive(cluster: Cluster, pgkit: Pgkit, only: (name: string) => boolean = () => true) {
  const repository = await repositoryIn(fileStore({ path: pgkit.repository }));
  const folder = join(dirname(cluster.dataDir), "archive");
  const systemId = await cluster.psql("SELECT system_identifier FROM pg_control_system()");
  const lineage = { instance: "shared", systemId };
  await createLineage(repository, { ...lineage, segmentBytes: 16 * 1024 ** 2, serverVersion: "15" }, systemClock);
  const names = await readdir(folder).catch(() => []);
  for (const name of names.filter(only)) await putWal(repository, lineage, name, await readFile(join(folder, name)));
  return names;
}

export interface Standby {
  url: string;
  server: RunningServer;
  dataDir: string;
  psql(sql: string): Promise<string>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** A standby that streams from the cluster and has caught up with it. */
export async function startStandby(cluster: Cluster, settings: Record<string, string> = {}): Promise<Standby> {
  const { binDir, runAs, superuser, password } = cluster;
  const folder = await mkdtemp(join(tmpdir(), "pgkit-standby-"));
  if (runAs !== undefined) await chown(folder, runAs.uid, runAs.gid);
  const dataDir = join(folder, "data");
  await cluster.program("pg_basebackup", ["-D", dataDir, "-X", "stream", "-c", "fast", "-R"]);
  await run("chown", ["-R", `${runAs?.uid}:${runAs?.gid}`, dataDir]);
  await chmod(dataDir, 0o700);
  const server = await startServer({ binDir, dataDir, runAs, tcp: true, settings: { fsync: "off", ...settings } });
  const url = `postgresql://${superuser}:${password}@127.0.0.1:${server.port}/postgres`;
  const psql = async (sql: string) =>
    (await run(join(binDir, "psql"), ["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql, url])).stdout.trimEnd();
  const lsn = await cluster.psql("SELECT pg_current_wal_lsn()");
  await eventually(async () => {
    if ((await psql(`SELECT pg_last_wal_replay_lsn() >= '${lsn}'`)) !== "t") throw new Error("it lags");
  });
  return {
    ...{ url, server, dataDir, psql },
    [Symbol.asyncDispose]: async () => {
      await server.stop("immediate");
      await rm(folder, { recursive: true, force: true });
    },
  };
}
