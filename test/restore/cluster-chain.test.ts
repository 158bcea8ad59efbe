import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startServer } from "../../src/postgres/server.ts";
import type { Manifest } from "../../src/repo/manifest.ts";
import type { Repository } from "../../src/repo/repository.ts";
import { fileStore } from "../../src/store/file.ts";
import { repositoryIn } from "../repo/support.ts";
import { type Cluster, startCluster, testPrograms } from "../support/cluster.ts";
import { openFolder, restore, takeBackup } from "./cluster-support.ts";

let cluster: Cluster;
let folder = "";
let repository: Repository;
let oid = 0;
const chain: Manifest[] = [];

/** Incremental backups begin with PostgreSQL 17; on an older one the same code is asked to restore one, and refuses. */
const { major } = await testPrograms();
const has = () => major >= 17;

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

if (major >= 17) {
  describe("a chain that is put together", () => {
    it("cut by SIGKILL at any step is nothing that starts, and is put together when it is run again", async () => {
      const place = await openFolder(join(folder, "cut"));
      const [dataDir, space] = [join(place, "data"), join(place, "space")];
      const child = join(import.meta.dirname, "cluster-restore-child.ts");
      const args = [child, join(folder, "repository"), chain.map(({ id }) => id).join(), dataDir, `${oid}=${space}`];
      let cut = 0;
      for (const step of ["pgkit-restore.d/1", "pgkit-restore.d/combined/global", "PG_VERSION"]) {
        const killed = spawn(process.execPath, args, { stdio: ["ignore", "ignore", "inherit"] });
        const exit = once(killed, "exit");
        // Without a pause in between: some steps last for milliseconds.
        while (killed.exitCode === null && !existsSync(join(dataDir, step))) await setImmediate();
        killed.kill("SIGKILL");
        await exit;
        const names = await readdir(dataDir);
        if (names.includes("pgkit-restore.json")) {
          cut++;
          await expect(ask(dataDir, "SELECT 1")).rejects.toThrow(/did not start/);
          await restore(repository, chain, dataDir, {
            tablespaces: new Map([[oid, space]]),
            programs: cluster.programs,
          });
        }
        await cluster.program("pg_verifybackup", ["-q", "-n", dataDir]);
        expect([await readdir(place), (await readdir(dataDir)).filter((name) => name.includes("pgkit"))]).toEqual([
          ["data", "space"],
          [],
        ]);
        for (const dir of [dataDir, space]) await rm(dir, { recursive: true });
      }
      expect(cut).toBeGreaterThan(1);
    });

    it("over a directory whose WAL was saved keeps that through a cut", async () => {
      const place = await openFolder(join(folder, "saved"));
      const [dataDir, space] = [join(place, "data"), join(place, "space")];
      const how = { tablespaces: new Map([[oid, space]]), programs: cluster.programs };
      await restore(repository, chain, dataDir, how);
      // As a run leaves it that is killed when it puts its work in place.
      const taken = join(dataDir, "pgkit-restore.d/combined/pg_wal/pgkit-unarchived");
      await mkdir(taken, { recursive: true });
      await writeFile(join(taken, "0000000100000000000000AA"), "committed, and nowhere else");
      const { id, server } = chain.at(-1) as Manifest;
      const marker = { backup: id, systemId: server.systemId, tablespaces: [space], owner: "" };
      await writeFile(join(dataDir, "pgkit-restore.json"), JSON.stringify(marker));
      await restore(repository, chain, dataDir, how);
      const saved = join(dataDir, "pg_wal/pgkit-unarchived/0000000100000000000000AA");
      expect(await readFile(saved, "utf8")).toBe("committed, and nowhere else");
    });
  });
}
