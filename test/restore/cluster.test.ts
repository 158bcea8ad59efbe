import { execFile } from "node:child_process";
import { lstat, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startServer } from "../../src/postgres/server.ts";
import type { Manifest } from "../../src/repo/manifest.ts";
import type { Repository } from "../../src/repo/repository.ts";
import { fileStore } from "../../src/store/file.ts";
import { repositoryIn } from "../repo/support.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { openFolder, restore, takeBackup } from "./cluster-support.ts";

const run = promisify(execFile);

let cluster: Cluster;
let folder = "";
let repository: Repository;
let backup: Manifest;
let oid = 0;

beforeAll(async () => {
  folder = await openFolder(await mkdtemp(join(tmpdir(), "pgkit-files-test-")));
  cluster = await startCluster({ settings: { wal_level: "replica", max_wal_senders: "4" } });
  repository = await repositoryIn(fileStore({ path: join(folder, "repository") }));
  await cluster.psql("CREATE TABLE spends AS SELECT i, md5(i::text) FROM generate_series(1, 50000) i");
  await cluster.psql(`CREATE TABLESPACE fast LOCATION '${await openFolder(join(folder, "space"))}'`);
  await cluster.psql("CREATE TABLE quick TABLESPACE fast AS SELECT i FROM generate_series(1, 10000) i");
  oid = Number(await cluster.psql("SELECT oid FROM pg_tablespace WHERE spcname = 'fast'"));
  backup = await takeBackup(cluster, repository, folder, { id: "base-1" });
});

afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

/** A place for one test: a data directory and one for the tablespace, neither there yet. */
async function newPlace(name: string): Promise<{ dataDir: string; tablespaces: Map<number, string> }> {
  const place = await openFolder(join(folder, name));
  return { dataDir: join(place, "data"), tablespaces: new Map([[oid, join(place, "space")]]) };
}

/** What the restored server answers. */
async function ask(dataDir: string, sql: string): Promise<unknown> {
  const { binDir, runAs } = cluster;
  const server = await startServer({ binDir, dataDir, runAs, tcp: true, settings: { archive_mode: "off" } });
  const client = new pg.Client({ host: "127.0.0.1", port: server.port, user: "postgres", password: cluster.password });
  try {
    await client.connect();
    return (await client.query({ text: sql, rowMode: "array" })).rows[0];
  } finally {
    await client.end();
    await server.stop();
  }
}

async function verifyBackup(dataDir: string): Promise<void> {
  await run(join(cluster.binDir, "pg_verifybackup"), ["-q", "-n", "-i", "tablespace_map", dataDir]);
}

describe("a base backup", () => {
  it("is restored whole, with its tablespace elsewhere, to a directory that the server starts on", async () => {
    const { dataDir, tablespaces } = await newPlace("whole");
    const restored = await restore(repository, [backup], dataDir, { tablespaces });
    expect(restored.keptFiles).toBe(0);
    expect(restored.writtenBytes).toBeGreaterThan(20_000_000);
    await verifyBackup(dataDir);
    expect(await readlink(join(dataDir, "pg_tblspc", String(oid)))).toBe(tablespaces.get(oid));
    expect((await readdir(dataDir)).filter((name) => name.includes("pgkit"))).toEqual([]);
    const owner = cluster.runAs?.uid ?? process.getuid?.();
    for (const path of ["", "global/pg_control", "base", "pg_wal", "pg_replslot", "PG_VERSION"]) {
      const found = await stat(join(dataDir, path));
      const mode = found.isDirectory() ? 0o700 : 0o600;
      expect({ path, uid: found.uid, mode: found.mode & 0o777 }).toEqual({ path, uid: owner, mode });
    }
    expect(await ask(dataDir, "SELECT (SELECT count(*) FROM spends), (SELECT sum(i) FROM quick)")).toEqual([
      "50000",
      "50005000",
    ]);
    // Recovery makes the links anew from tablespace_map: it must name the new place, not that of the live server.
    expect(await readlink(join(dataDir, "pg_tblspc", String(oid)))).toBe(tablespaces.get(oid));
  });

  it("writes only the wanted contents, and says truthfully how many bytes that was", async () => {
    const { dataDir, tablespaces } = await newPlace("wanted");
    const path = await cluster.psql("SELECT pg_relation_filepath('spends')");
    const restored = await restore(repository, [backup], dataDir, { tablespaces, wants: (each) => each !== path });
    const left = await lstat(join(dataDir, path));
    expect(left).toMatchObject({ blocks: 0, size: (await lstat(join(cluster.dataDir, path))).size });
    const everything = await restore(repository, [backup], ...(await elsewhere("wanted-all")));
    expect(everything.writtenBytes - restored.writtenBytes).toBe(left.size);
  });
});

async function elsewhere(name: string): Promise<[string, { tablespaces: Map<number, string> }]> {
  const { dataDir, tablespaces } = await newPlace(name);
  return [dataDir, { tablespaces }];
}

describe("a restore refuses, and changes nothing", () => {
  it("a directory that is not empty, for the cluster or for a tablespace", async () => {
    const { dataDir, tablespaces } = await newPlace("not-empty");
    await writeFile(join(await openFolder(dataDir), "precious"), "x");
    await expect(restore(repository, [backup], dataDir, { tablespaces })).rejects.toMatchObject({
      code: "refused-overwrite",
      message: `the data directory ${dataDir} is not empty`,
    });
    await expect(restore(repository, [backup], dataDir, { tablespaces, delta: true })).rejects.toMatchObject({
      code: "refused-overwrite",
      message: expect.stringContaining("no data directory"),
    });
    expect(await readdir(dataDir)).toEqual(["precious"]);
    const other = await newPlace("not-empty-space");
    const space = await openFolder(other.tablespaces.get(oid) ?? "");
    await writeFile(join(space, "precious"), "x");
    await expect(restore(repository, [backup], other.dataDir, other)).rejects.toMatchObject({
      code: "refused-overwrite",
      message: expect.stringContaining(space),
    });
    await expect(stat(other.dataDir)).rejects.toMatchObject({ code: "ENOENT" });
    expect(await readdir(space)).toEqual(["precious"]);
  });

  it("the original places while the original is there", async () => {
    await expect(restore(repository, [backup], join(folder, "original"))).rejects.toMatchObject({
      code: "refused-overwrite",
      message: expect.stringContaining(join(folder, "space")),
    });
  });

  it("two parts at one place, and a tablespace that the backup has not", async () => {
    const { dataDir } = await newPlace("shared");
    const inside = new Map([[oid, join(dataDir, "space")]]);
    await expect(restore(repository, [backup], dataDir, { tablespaces: inside })).rejects.toMatchObject({
      code: "refused-overwrite",
      message: expect.stringContaining("share a place"),
    });
    const unknown = new Map([[999, join(folder, "nowhere")]]);
    await expect(restore(repository, [backup], dataDir, { tablespaces: unknown })).rejects.toMatchObject({
      code: "usage",
      hint: expect.stringContaining(`${oid} (fast`),
    });
  });

  it("--delta over a running server, and over another system", async () => {
    const before = await readFile(join(cluster.dataDir, "global/pg_control"));
    await expect(restore(repository, [backup], cluster.dataDir, { delta: true })).rejects.toMatchObject({
      code: "refused-overwrite",
      message: expect.stringContaining(`a server runs on ${cluster.dataDir} (process ${cluster.pid}`),
    });
    expect(await readFile(join(cluster.dataDir, "global/pg_control"))).toEqual(before);
    const other = await startCluster();
    try {
      await other.stop();
      // The copies of one template have one identifier, so that it is changed in the file.
      const control = join(other.dataDir, "global/pg_control");
      await writeFile(control, (await readFile(control)).fill(7, 0, 8));
      const names = await readdir(other.dataDir, { recursive: true });
      const work = restore(repository, [backup], other.dataDir, { delta: true, ...(await newPlaceFor("other")) });
      await expect(work).rejects.toMatchObject({
        code: "system-mismatch",
        message: expect.stringContaining(`backup base-1 of ${backup.server.systemId}`),
      });
      expect(await readdir(other.dataDir, { recursive: true })).toEqual(names);
    } finally {
      await other[Symbol.asyncDispose]();
    }
  });
});

async function newPlaceFor(name: string): Promise<{ tablespaces: Map<number, string> }> {
  return { tablespaces: (await newPlace(name)).tablespaces };
}
