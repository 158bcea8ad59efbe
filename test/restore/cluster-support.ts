import { createReadStream } from "node:fs";
import { chown, mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "../../src/lib/time.ts";
import { unprivilegedUser } from "../../src/postgres/run-as.ts";
import { commitBackup } from "../../src/repo/backups.ts";
import { writeFile } from "../../src/repo/files.ts";
import { backupFolder } from "../../src/repo/layout.ts";
import type { BaseFacts, Manifest, StoredFile } from "../../src/repo/manifest.ts";
import type { Repository } from "../../src/repo/repository.ts";
import { type ClusterFilesRequest, restoreClusterFiles } from "../../src/restore/cluster.ts";
import type { Cluster } from "../support/cluster.ts";

export interface TakenBackup {
  id: string;
  parent?: string;
  wal?: boolean;
  options?: string[];
}

/** Takes a base backup with PostgreSQL's own program into `folder`, and stores it as pgkit lays it out. */
export async function takeBackup(
  cluster: Cluster,
  repository: Repository,
  folder: string,
  { id, parent, wal = true, options = [] }: TakenBackup,
): Promise<Manifest> {
  const dir = join(folder, `taken-${id}`);
  await mkdir(dir);
  const [checkpoint, tar] = [
    ["-c", "fast"],
    ["-Ft", "--compress=server-zstd:level=1"],
  ];
  await cluster.program("pg_basebackup", ["-D", dir, ...checkpoint, ...tar, "-X", wal ? "fetch" : "none", ...options]);
  return storeTaken(cluster, repository, dir, { id, ...(parent === undefined ? {} : { parent }) });
}

export async function storeTaken(
  cluster: Pick<Cluster, "psql">,
  repository: Repository,
  dir: string,
  { id, parent }: { id: string; parent?: string },
): Promise<Manifest> {
  const folder = backupFolder("shared", id);
  const files: StoredFile[] = [];
  for (const name of (await readdir(dir)).sort()) {
    const role = name === "backup_manifest" ? "backup-manifest" : name.startsWith("base.") ? "base" : "tablespace";
    const source = createReadStream(join(dir, name), { highWaterMark: 256 * 1024 });
    const file = { name, role, compressed: name.endsWith(".zst") } as const;
    files.push((await writeFile(repository, folder, file, source)).file);
  }
  const text = await readFile(join(dir, "backup_manifest"), "utf8");
  const manifest = manifestOf(repository, files, await factsOf(cluster, text), { id, ...(parent && { parent }) });
  await commitBackup(repository, manifest);
  return manifest;
}

async function factsOf(cluster: Pick<Cluster, "psql">, text: string) {
  const {
    "WAL-Ranges": [range],
  } = JSON.parse(text);
  const ask = async (sql: string) => JSON.parse(await cluster.psql(sql));
  const tablespaces = await ask(
    "SELECT coalesce(json_agg(json_build_object('oid', oid::int, 'name', spcname, 'location', pg_tablespace_location(oid))), '[]') FROM pg_tablespace WHERE oid > 16384",
  );
  const systemId = await cluster.psql("SELECT system_identifier FROM pg_control_system()");
  const version = await cluster.psql("SHOW server_version");
  const base: BaseFacts = {
    timeline: range.Timeline,
    startLsn: range["Start-LSN"],
    stopLsn: range["End-LSN"],
    stoppedAt: new Date().toISOString(),
    segmentBytes: 16 * 1024 * 1024,
    walIncluded: true,
    engine: "pg_basebackup",
    fromStandby: false,
    label: "test",
    checkpoint: "fast",
    dataChecksums: false,
    sizeBytes: 0,
    tablespaces,
    databases: [],
  };
  return { base, server: { version, systemId } };
}

function manifestOf(
  repository: Repository,
  files: StoredFile[],
  facts: Awaited<ReturnType<typeof factsOf>>,
  identity: { id: string; parent?: string },
): Manifest {
  const now = new Date().toISOString();
  return {
    ...{ format: 1, kind: "base", repository: repository.id, instance: "shared", startedAt: now, finishedAt: now },
    ...{ tools: { pgkit: "0.0.0" }, proof: "read-back", plainBytes: 0, storedBytes: 0 },
    ...identity,
    ...facts,
    files,
  };
}

/** A folder that the server's user may pass and write in. */
export async function openFolder(path: string): Promise<string> {
  await mkdir(path, { recursive: true });
  const runAs = await unprivilegedUser();
  if (runAs !== undefined) await chown(path, runAs.uid, runAs.gid);
  return path;
}

/** Restores with what a test does not care about filled in. */
export async function restore(
  repository: Repository,
  chain: readonly Manifest[],
  dataDir: string,
  rest: Partial<ClusterFilesRequest> = {},
) {
  return restoreClusterFiles({
    ...{ repository, chain, dataDir, tablespaces: new Map(), delta: false, jobs: 2, clock: systemClock },
    runAs: await unprivilegedUser(),
    report: () => undefined,
    signal: new AbortController().signal,
    ...rest,
  });
}
