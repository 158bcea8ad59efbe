import { mkdtemp, readdir, readlink, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startServer } from "../../src/postgres/server.ts";
import type { Manifest } from "../../src/repo/manifest.ts";
import type { Repository } from "../../src/repo/repository.ts";
import { fileStore } from "../../src/store/file.ts";
import { repositoryIn } from "../repo/support.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { openFolder, restore, takeBackup } from "./cluster-support.ts";

let cluster: Cluster;
let folder = "";
let repository: Repository;
let oid = 0;
const chain: Manifest[] = [];

/** Incremental backups begin with PostgreSQL 17; on an older one the same code is asked to restore one, and refuses. */
const has = () => cluster.major >= 17;

beforeAll(async () => {
  folder = await openFolder(await mkdtemp(join(tmpdir(), "pgkit-chain-test-")));
  cluster = await startCluster({ settings: { wal_level: "replica", max_wal_senders: "4" } });
  repository = await repositoryIn(fileStore({ path: join(folder, "repository") }));
  if (has()) await cluster.restart({ summarize_wal: "on" });
  await cluster.psql("CREATE TABLE spends AS SELECT i, md5(i::text) FROM generate_series(1, 100000) i");
  await cluster.psql(`CREATE TABLESPACE fast LOCATION '${await openFolder(join(folder, "space"))}'`);
  await cluster.psql("CREATE TABLE quick TABLESPACE fast AS SELECT i FROM generate_series(1, 50000) i");
  oid = Number(await cluster.psql("SELECT oid FROM pg_tablespace WHERE spcname = 'fast'"));
  chain.push(await takeBackup(cluster, repository, folder, { id: "base-1" }));
  for (const id of has() ? ["base-2", "base-3"] : []) {
    await cluster.psql(`INSERT INTO spends VALUES (0, '${id}')`);
    await cluster.psql(`UPDATE quick SET i = -1 WHERE i = ${id.slice(-1)}`);
    const parent = chain.at(-1)?.id ?? "";
    const options = ["--incremental", join(folder, `taken-${parent}`, "backup_manifest")];
    chain.push(await takeBackup(cluster, repository, folder, { id, parent, options }));
  }
});

afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function ask(dataDir: string, sql: string): Promise<unknown> {
  const { binDir, runAs } = cluster;
  const server = await startServer({ binDir, dataDir, runAs, tcp: true });
  const client = new pg.Client({ host: "127.0.0.1", port: server.port, user: "postgres", password: cluster.password });
  try {
    await client.connect();
    return (await client.query({ text: sql, rowMode: "array" })).rows[0];
  } finally {
    await client.end();
    await server.stop();
  }
}

describe("a chain of incremental backups", () => {
  it("is put together, with its tablespace elsewhere, and leaves nothing beside; also over what is there", async () => {
    const place = await openFolder(join(folder, "chain"));
    const [dataDir, space] = [join(place, "data"), join(place, "space")];
    const tablespaces = new Map([[oid, space]]);
    if (!has()) {
      const incremental = { ...(chain[0] as Manifest), id: "base-2", parent: "base-1" };
      const work = restore(repository, [...chain, incremental], dataDir, { tablespaces, programs: cluster.programs });
      await expect(work).rejects.toMatchObject({ code: "tool-missing", message: expect.stringContaining("base-2") });
      return;
    }
    for (const delta of [false, true]) {
      await restore(repository, chain, dataDir, { tablespaces, programs: cluster.programs, delta });
      expect(await readlink(join(dataDir, "pg_tblspc", String(oid)))).toBe(space);
      expect(await readdir(place)).toEqual(["data", "space"]);
      expect((await readdir(dataDir)).filter((name) => name.includes("pgkit"))).toEqual([]);
      expect(await readdir(space)).toEqual([expect.stringMatching(/^PG_/)]);
      await cluster.program("pg_verifybackup", ["-q", "-n", dataDir]);
      const sql = "SELECT (SELECT count(*) FROM spends), (SELECT count(*) FROM quick WHERE i = -1)";
      expect(await ask(dataDir, sql)).toEqual(["100002", "2"]);
    }
  });

  it("is refused when a link is missing, and a link that is damaged is named", async () => {
    const [first, , last] = has() ? chain : [chain[0], undefined, { ...(chain[0] as Manifest), parent: "base-9" }];
    const place = join(await openFolder(join(folder, "broken")), "data");
    await expect(restore(repository, [first as Manifest, last as Manifest], place)).rejects.toMatchObject({
      message: expect.stringContaining(`builds on ${last?.parent}`),
    });
    expect(await readdir(join(folder, "broken"))).toEqual([]);
  });
});
