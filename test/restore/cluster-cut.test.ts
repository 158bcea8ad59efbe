import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { link, mkdir, mkdtemp, readdir, readFile, rm, symlink, unlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Manifest } from "../../src/repo/manifest.ts";
import type { Repository } from "../../src/repo/repository.ts";
import { faultyStore } from "../../src/store/faulty.ts";
import { fileStore } from "../../src/store/file.ts";
import { reports, repositoryIn } from "../repo/support.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { openFolder, restore, takeBackup } from "./cluster-support.ts";

const run = promisify(execFile);

let cluster: Cluster;
let folder = "";
let repository: Repository;
let backup: Manifest;
let oid = 0;

beforeAll(async () => {
  folder = await openFolder(await mkdtemp(join(tmpdir(), "pgkit-cut-test-")));
  cluster = await startCluster({ settings: { wal_level: "replica", max_wal_senders: "4" } });
  repository = await repositoryIn(fileStore({ path: join(folder, "repository") }));
  await cluster.psql("CREATE TABLE spends AS SELECT i, md5(i::text) FROM generate_series(1, 500000) i");
  await cluster.psql(`CREATE TABLESPACE fast LOCATION '${await openFolder(join(folder, "space"))}'`);
  await cluster.psql("CREATE TABLE quick TABLESPACE fast AS SELECT i FROM generate_series(1, 10000) i");
  oid = Number(await cluster.psql("SELECT oid FROM pg_tablespace WHERE spcname = 'fast'"));
  backup = await takeBackup(cluster, repository, folder, { id: "base-1" });
});

afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function newPlace(name: string): Promise<{ dataDir: string; tablespaces: Map<number, string> }> {
  const place = await openFolder(join(folder, name));
  return { dataDir: join(place, "data"), tablespaces: new Map([[oid, join(place, "space")]]) };
}

/** That every file is there and right, by PostgreSQL's own program. */
async function expectWhole(dataDir: string): Promise<void> {
  await run(join(cluster.binDir, "pg_verifybackup"), ["-q", "-n", "-i", "tablespace_map", dataDir]);
  expect((await readdir(dataDir)).filter((name) => name.includes("pgkit"))).toEqual([]);
  expect((await readdir(join(dataDir, "global"))).filter((name) => name.startsWith("pg_control"))).toEqual([
    "pg_control",
  ]);
}

async function expectCannotStart(dataDir: string): Promise<void> {
  const postgres = run(join(cluster.binDir, "postgres"), ["-D", dataDir, "-c", "listen_addresses="], {
    ...cluster.runAs,
    cwd: "/",
  });
  await expect(postgres).rejects.toMatchObject({
    stderr: expect.stringMatching(
      /could not find the database system|could not access the server configuration file|is not a valid data directory/,
    ),
  });
}

describe("a restore that is cut", () => {
  it("by SIGKILL at any moment leaves nothing that starts, and goes on when it is run again", async () => {
    const { dataDir, tablespaces } = await newPlace("killed");
    const child = join(import.meta.dirname, "cluster-restore-child.ts");
    const args = [child, join(folder, "repository"), "base-1", dataDir, `${oid}=${tablespaces.get(oid)}`];
    const startedMs = performance.now();
    const whole = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    await once(whole.stdout, "data");
    const beginsMs = performance.now();
    expect(await once(whole, "exit")).toEqual([0, null]);
    const lastsMs = performance.now() - beginsMs;
    expect(beginsMs - startedMs).toBeGreaterThan(0);
    await expectWhole(dataDir);
    let cut = 0;
    // The moments are parts of the time that the work takes on this machine, from its beginning to its end.
    for (const part of [0.02, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9]) {
      await rm(dataDir, { recursive: true });
      await rm(tablespaces.get(oid) ?? "", { recursive: true });
      const killed = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
      await once(killed.stdout, "data");
      const exit = once(killed, "exit");
      await Promise.race([delay(lastsMs * part), exit]);
      killed.kill("SIGKILL");
      const [code] = await exit;
      const names = await readdir(dataDir).catch((): string[] => []);
      // Whoever is killed as the last thing, the marker, is gone, has done it all.
      if (code === null && names.includes("PG_VERSION") && !names.includes("pgkit-restore.json")) {
        await expectWhole(dataDir);
        continue;
      }
      if (code === null && names.length > 0) {
        cut++;
        await expectCannotStart(dataDir);
      }
      if (code === null) await restore(repository, [backup], dataDir, { tablespaces });
      await expectWhole(dataDir);
    }
    expect(cut).toBeGreaterThan(2);
  });

  it("by the store keeps what is right already, and is refused to another backup without --delta", async () => {
    const { dataDir, tablespaces } = await newPlace("store");
    const base = backup.files.find(({ role }) => role === "base")?.volumes[0];
    // The first get is of backup_manifest, the second of the largest archive.
    const cutAfter = Math.floor((base?.storedBytes ?? 0) * 0.6);
    const store = faultyStore(fileStore({ path: join(folder, "repository") }), [
      { method: "get", call: 2, does: { cutAfter } },
    ]);
    await expect(restore({ ...repository, store }, [backup], dataDir, { tablespaces })).rejects.toMatchObject({
      code: "store-failed",
    });
    await expectCannotStart(dataDir);
    const other = { ...backup, id: "base-2" };
    await expect(restore(repository, [other], dataDir, { tablespaces })).rejects.toMatchObject({
      code: "refused-overwrite",
      message: `the data directory ${dataDir} holds a restore of base-1 that was cut`,
    });
    const resumed = await restore(repository, [backup], dataDir, { tablespaces });
    expect(resumed.keptFiles).toBeGreaterThan(100);
    expect(resumed.keptFiles).toBeLessThan(resumed.files);
    await expectWhole(dataDir);
  });

  it("before pg_control, by what shall be written first, does not start either", async () => {
    const { dataDir, tablespaces } = await newPlace("before");
    const beforeControl = () => Promise.reject(new Error("no settings"));
    await expect(restore(repository, [backup], dataDir, { tablespaces, beforeControl })).rejects.toThrow("no settings");
    await expectCannotStart(dataDir);
    const again = await restore(repository, [backup], dataDir, { tablespaces });
    // All but WAL, of which backup_manifest says nothing.
    expect(again.files - again.keptFiles).toBeLessThan(5);
    await expectWhole(dataDir);
  });
});

describe("--delta", () => {
  it("writes what differs, removes what is not in the backup, and follows no link", async () => {
    const { dataDir, tablespaces } = await newPlace("delta");
    await restore(repository, [backup], dataDir, { tablespaces });
    const outside = await openFolder(join(folder, "outside"));
    await writeFile(join(outside, "precious"), "x");
    await link(join(dataDir, "PG_VERSION"), join(outside, "linked"));
    await symlink(outside, join(dataDir, "base/99999"));
    await mkdir(join(dataDir, "base/88888"));
    await writeFile(join(dataDir, "base/88888/1"), "gone from the backup");
    await writeFile(join(dataDir, "PG_VERSION"), "14");
    await unlink(join(dataDir, "postgresql.conf"));
    await symlink(join(outside, "precious"), join(dataDir, "postgresql.conf"));
    await writeFile(join(dataDir, "postmaster.pid"), "4194304\n");
    await writeFile(join(tablespaces.get(oid) ?? "", "not-ours"), "of another cluster");
    const { report, said } = reports();
    await writeFile(join(dataDir, "pg_wal/0000000100000000000000AA"), "committed, and nowhere else");
    const result = await restore(repository, [backup], dataDir, { tablespaces, delta: true, report });
    expect(result.files - result.keptFiles).toBeLessThan(8);
    expect(await readdir(outside)).toEqual(["linked", "precious"]);
    expect(await readFile(join(outside, "precious"), "utf8")).toBe("x");
    // A file that is shared by a hard link is made anew, not written through.
    expect(await readFile(join(outside, "linked"), "utf8")).toBe("14");
    expect(await readdir(join(dataDir, "base"))).not.toContain("88888");
    expect(await readdir(tablespaces.get(oid) ?? "")).toContain("not-ours");
    const saved = "pg_wal/pgkit-unarchived/0000000100000000000000AA";
    expect(await readFile(join(dataDir, saved), "utf8")).toBe("committed, and nowhere else");
    expect(said()).toContain("had not archived");
    await rm(join(dataDir, "pg_wal/pgkit-unarchived"), { recursive: true });
    await unlink(join(tablespaces.get(oid) ?? "", "not-ours"));
    await expectWhole(dataDir);
  });
});
