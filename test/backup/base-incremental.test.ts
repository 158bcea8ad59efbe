import { execFile } from "node:child_process";
import { mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { errorOf } from "../faults/support.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { type Pgkit, pgkitFor } from "../support/pgkit.ts";
import { type BaseJson, backUp, listed, manifestOf, unpack, verifyBackup } from "./base-support.ts";

const run = promisify(execFile);

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster();
  await cluster.psql("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 100000) i; CHECKPOINT");
});

afterAll(async () => await cluster[Symbol.asyncDispose]());

/** One suite for every major: what an older one cannot, it must say. */
const itsMajor = async () => cluster.major;

async function newPgkit(): Promise<Pgkit> {
  return await pgkitFor({ shared: { cluster } });
}

async function summarize(on: boolean): Promise<void> {
  await cluster.psql(`ALTER SYSTEM SET summarize_wal = ${on ? "on" : "off"}`);
  await cluster.psql("SELECT pg_reload_conf()");
  await eventually(async () => expect(await cluster.psql("SHOW summarize_wal")).toBe(on ? "on" : "off"));
}

async function refused(pgkit: Pgkit, ...args: string[]) {
  const ran = await pgkit.run(["backup", "base", "--incremental", "--with-wal", ...args, "--json"]);
  return { status: ran.status, ...errorOf(ran).error };
}

describe("backup base --incremental", () => {
  test("is refused where the server cannot, by what is missing", async () => {
    await using pgkit = await newPgkit();
    if ((await itsMajor()) < 17) {
      expect(await refused(pgkit)).toMatchObject({
        status: 2,
        code: "usage",
        message: expect.stringContaining("17 or newer"),
      });
      return;
    }
    expect(await refused(pgkit)).toMatchObject({
      ...{ status: 2, code: "server-settings", hint: expect.stringContaining("ALTER SYSTEM SET summarize_wal = on") },
    });
    await summarize(true);
    expect(await refused(pgkit)).toMatchObject({
      status: 10,
      code: "backup-missing",
      hint: expect.stringContaining("full"),
    });
  });

  test.each(["protocol", "pg_basebackup"])(
    "by engine %s builds a chain that pg_combinebackup makes whole",
    async (engine) => {
      if ((await itsMajor()) < 17) return expect(await itsMajor()).toBeGreaterThan(14);
      await summarize(true);
      await using pgkit = await newPgkit();
      const take = (...args: string[]) => backUp(pgkit, "--with-wal", "--engine", engine, ...args);
      const full = await take();
      await cluster.psql("UPDATE t SET md5 = 'first' WHERE i < 100; CHECKPOINT");
      const first = await take("--incremental");
      await cluster.psql("UPDATE t SET md5 = 'second' WHERE i > 99900; CHECKPOINT");
      const second = await take("--incremental");
      expect([full.parent, first.parent, second.parent]).toEqual([undefined, full.id, first.id]);
      const stored = await Promise.all(
        [full, first, second].map(async (each) => (await manifestOf(pgkit, each)).plainBytes),
      );
      expect(stored[1]).toBeLessThan((stored[0] ?? 0) / 2);
      for (const each of [full, first, second]) await verifyBackup(cluster, pgkit, each);
      expect(await combined(pgkit, [full, first, second])).toContain("INCREMENTAL");
    },
  );

  test("builds on the newest whose chain is whole in every repository", async () => {
    if ((await itsMajor()) < 17) return expect(await itsMajor()).toBeGreaterThan(14);
    await summarize(true);
    await using pgkit = await newPgkit();
    const full = await backUp(pgkit, "--with-wal");
    const broken = await backUp(pgkit, "--with-wal");
    const orphan = await backUp(pgkit, "--with-wal", "--incremental");
    expect(orphan.parent).toBe(broken.id);
    const manifest = join(pgkit.repository, "backups", "shared", `${broken.id}.json`);
    await rename(manifest, `${pgkit.repository}/aside`);
    expect((await backUp(pgkit, "--with-wal", "--incremental")).parent).toBe(full.id);
    await rename(`${pgkit.repository}/aside`, manifest);
    const second = await mkdtemp(join(tmpdir(), "pgkit-second-"));
    const repositories = [
      { name: "one", url: pgkit.repository },
      { name: "two", url: second },
    ];
    const yaml = JSON.stringify({ repositories, instances: { shared: { url: cluster.url() } } });
    const files = { "pgkit.yaml": yaml };
    const none = await pgkit.run(["backup", "base", "--incremental", "--with-wal", "--json"], { files });
    expect(none.status).toBe(10);
    const both = await pgkit.json<{ backups: BaseJson[] }>(["backup", "base", "--with-wal"], { files });
    await backUp(pgkit, "--with-wal");
    const args = ["backup", "base", "--incremental", "--with-wal"];
    const { backups } = await pgkit.json<{ backups: BaseJson[] }>(args, { files });
    expect(backups.map(({ parent }) => parent)).toEqual([both.backups[0]?.id, both.backups[0]?.id]);
    await rm(second, { recursive: true });
  });

  test("says so when the summaries from its parent on are gone", async () => {
    if ((await itsMajor()) < 17) return expect(await itsMajor()).toBeGreaterThan(14);
    await summarize(false);
    await using pgkit = await newPgkit();
    await backUp(pgkit, "--with-wal");
    await cluster.psql("UPDATE t SET md5 = 'unsummarized' WHERE i < 1000; SELECT pg_switch_wal(); CHECKPOINT");
    await cluster.psql("SELECT pg_switch_wal()");
    await summarize(true);
    await cluster.psql("INSERT INTO t VALUES (0, 'x'); SELECT pg_switch_wal(); CHECKPOINT");
    await eventually(async () => {
      expect(await cluster.psql("SELECT count(*) > 0 FROM pg_available_wal_summaries()")).toBe("t");
    });
    await run("sh", ["-c", `rm -f ${cluster.dataDir}/pg_wal/summaries/*`]);
    const { status, code, hint } = await refused(pgkit);
    expect([status, code]).toEqual([2, "server-settings"]);
    expect(hint).toContain("full base backup");
    expect(await listed(pgkit)).toHaveLength(1);
  });
});

/** Combines a chain, verifies it, starts nothing; gives the list of what the last of them stores. */
async function combined(pgkit: Pgkit, chain: readonly BaseJson[]): Promise<string> {
  const dirs = await Promise.all(chain.map((each) => unpack(pgkit, each)));
  const out = await mkdtemp(join(tmpdir(), "pgkit-combined-"));
  await run(join(cluster.binDir, "pg_combinebackup"), [...dirs, "-o", join(out, "data")]);
  await run(join(cluster.binDir, "pg_verifybackup"), [join(out, "data")]);
  const { stdout } = await run("find", [dirs.at(-1) ?? ""]);
  for (const dir of [...dirs, out]) await rm(dir, { recursive: true });
  return stdout;
}
