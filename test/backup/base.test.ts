import { execFile } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgkit, pgkitFor } from "../support/pgkit.ts";

const run = promisify(execFile);

let cluster: Cluster;
let pgkit: Pgkit;

beforeAll(async () => {
  cluster = await startCluster();
  pgkit = await pgkitFor({ shared: { cluster } });
  await cluster.psql("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i");
});

afterAll(async () => {
  await pgkit[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
});

interface Base {
  id: string;
  kind: string;
  wal: { timeline: number; startLsn: string; stopLsn: string };
}

describe("backup base", () => {
  test("with its WAL inside is a directory that pg_verifybackup finds right", async () => {
    const { backups } = await pgkit.json<{ backups: Base[] }>(["backup", "base", "--with-wal"]);
    const [base] = backups;
    expect(base).toMatchObject({ kind: "base", wal: { timeline: 1 } });
    const folder = join(pgkit.repository, "files", "shared", base?.id ?? "");
    expect(await readdir(folder)).toEqual(["backup_manifest.zst", "base.tar.zst"]);
    const dir = await mkdtemp(join(tmpdir(), "pgkit-base-"));
    await run("sh", [
      "-c",
      `zstd -dc ${folder}/base.tar.zst | tar -C ${dir} -x && zstd -dc ${folder}/backup_manifest.zst > ${dir}/backup_manifest`,
    ]);
    await run(join(cluster.binDir, "pg_verifybackup"), [dir]);
    await rm(dir, { recursive: true });
  });
});
