import { execFile } from "node:child_process";
import { chmod, chown, cp, mkdtemp, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { generateIdentity, identityToRecipient } from "age-encryption";
import { describe, expect, onTestFinished, test } from "vitest";
import { unprivilegedUser } from "../../src/postgres/run-as.ts";
import { type RunningServer, startServer } from "../../src/postgres/server.ts";
import { startProxy } from "../store/proxy.ts";
import { eventually } from "../support/eventually.ts";
import { type S3Server, startS3 } from "../support/s3.ts";
import { type Archiving, type Place, pushersOf, startArchiving, workersOf } from "./archiving.ts";

const segment = /^[0-9A-F]{24}$/;

/** The moments come from here, so that a failure can be met again. */
function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** It may have ended by itself in this moment. */
function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    expect(error).toMatchObject({ code: "ESRCH" });
  }
}

async function inS3(folder: string): Promise<Place> {
  const s3 = await startS3("old");
  return await s3Place(s3, await s3.newBucket(), folder);
}

/** Encrypted. */
async function s3Place(access: S3Access, bucket: string, folder: string): Promise<Place> {
  const { endpoint, region, accessKeyId, secretAccessKey } = access;
  const storage = { endpoint, region, accessKeyId, secretAccessKey };
  const { line, identity } = await encryption(folder);
  const url = `s3://${bucket}/prod`;
  return { lines: [`repository: ${url}`, `storage: ${JSON.stringify(storage)}`, line], url, storage, identity };
}

type S3Access = Pick<S3Server, "endpoint" | "region" | "accessKeyId" | "secretAccessKey">;

async function encryption(folder: string, name = "key"): Promise<{ line: string; identity: string }> {
  const identity = await generateIdentity();
  await writeFile(join(folder, name), `${identity}\n`, { mode: 0o644 });
  const line = `encryption: { recipients: [${await identityToRecipient(identity)}], identityFile: ${join(folder, name)} }`;
  return { line, identity };
}

/** Writes until it is told to stop, a segment every few moments; a server that goes away meanwhile is met again. */
function load({ cluster }: Archiving): { stop(): Promise<void> } {
  let stopped = false;
  const ended = (async () => {
    while (!stopped) {
      await cluster
        .program("pgbench", ["-n", "-c", "2", "-t", "50"])
        .then(() => cluster.psql("SELECT pg_switch_wal()"))
        .catch(() => delay(50));
    }
  })();
  return {
    stop: async () => {
      stopped = true;
      await ended;
    },
  };
}

async function allArchived(archiving: Archiving): Promise<void> {
  await archiving.cluster.psql("SELECT pg_switch_wal()");
  await eventually(async () => expect(await archiving.ready()).toEqual([]), 60_000);
}

/** Every file that PostgreSQL has as archived and that is still there is stored, byte for byte. */
async function expectStored(archiving: Archiving): Promise<string[]> {
  const { cluster } = archiving;
  const names = await archiving.archived();
  for (const name of names) {
    const there = await archiving.fetch(name);
    expect(there?.equals(await readFile(join(cluster.dataDir, "pg_wal", name))), name).toBe(true);
  }
  return names.filter((name) => segment.test(name));
}

describe.each(["folder", "S3, encrypted"])("archiving to a %s", (where) => {
  test("whatever is killed under load, all that PostgreSQL has as archived is stored", async () => {
    const random = dice(20_261_121);
    await using archiving = await startArchiving({
      repository: where === "folder" ? undefined : inS3,
      settings: { wal_keep_size: "4GB", max_wal_size: "4GB" },
    });
    const { cluster } = archiving;
    await cluster.program("pgbench", ["-i", "-q", "-s", "3"]);
    const writing = load(archiving);
    const killed = { worker: 0, push: 0, server: 0 };
    for (let round = 0; round < 12; round++) {
      await delay(100 + random() * 700);
      const victims = await eventually(async () => {
        const found = round % 3 === 1 ? await pushersOf(cluster.dataDir) : await workersOf(cluster.dataDir);
        expect(found).not.toEqual([]);
        return found;
      });
      for (const pid of victims) kill(pid);
      killed[round % 3 === 1 ? "push" : "worker"] += victims.length;
      if (round % 6 !== 5) continue;
      await cluster.kill9();
      killed.server++;
      await cluster.restart();
    }
    await writing.stop();
    await allArchived(archiving);
    expect(killed.worker).toBeGreaterThan(2);
    const names = await expectStored(archiving);
    expect(names.length).toBeGreaterThan(12);
    // One after the other: nothing was acknowledged and left out.
    const numbers = names.map(
      (name) => Number.parseInt(name.slice(8, 16), 16) * 256 + Number.parseInt(name.slice(16), 16),
    );
    expect(numbers.at(-1)).toBe((numbers[0] ?? 0) + numbers.length - 1);
  }, 180_000);
});

test("a store that refuses for long loses nothing: PostgreSQL is told each time, and all is stored once it answers", async () => {
  let down = false;
  const s3 = await startS3("old");
  const bucket = await s3.newBucket();
  const proxy = await startProxy(s3.endpoint, () => (down ? { answer: { status: 503 } } : undefined));
  try {
    await using archiving = await startArchiving({
      repository: (folder) => s3Place({ ...s3, endpoint: proxy.endpoint }, bucket, folder),
      settings: { wal_keep_size: "4GB", max_wal_size: "4GB" },
    });
    const { cluster } = archiving;
    await cluster.psql("CREATE TABLE t (x text); SELECT pg_switch_wal()");
    await eventually(async () => expect((await archiving.archived()).length).toBeGreaterThan(0));
    down = true;
    for (let round = 0; round < 15; round++) {
      await cluster.psql("INSERT INTO t SELECT repeat('x', 1000) FROM generate_series(1, 500); SELECT pg_switch_wal()");
    }
    const failed = async () => Number(await cluster.psql("SELECT failed_count FROM pg_stat_archiver"));
    await eventually(async () => expect(await failed()).toBeGreaterThan(0), 60_000);
    expect((await archiving.ready()).length).toBeGreaterThanOrEqual(15);
    const [first = ""] = await archiving.ready();
    const { status, said } = await archiving.pgkit(["wal", "push", `pg_wal/${first}`]);
    expect(status).toBe(13);
    expect(said).toMatch(/hint: /);
    down = false;
    await allArchived(archiving);
    expect((await expectStored(archiving)).length).toBeGreaterThan(15);
  } finally {
    await proxy.close();
  }
}, 180_000);

test("a note of an earlier file of that name acknowledges nothing", async () => {
  await using archiving = await startArchiving({ settings: { wal_keep_size: "1GB" } });
  const { cluster } = archiving;
  const current = await cluster.psql("SELECT pg_walfile_name(pg_current_wal_lsn())");
  const spool = join(cluster.dataDir, "pg_wal", "pgkit");
  await cp(join(cluster.dataDir, "PG_VERSION"), join(cluster.dataDir, "old.ok"), { preserveTimestamps: true });
  // One by hand of a segment that is still being written would store half of it under its name.
  const early = await archiving.pgkit(["wal", "push", `pg_wal/${current}`]);
  expect(early).toMatchObject({ status: 40, said: expect.stringMatching(/is still being written/) });
  await rename(join(cluster.dataDir, "old.ok"), join(spool, `${current}.ok`));
  await cluster.psql("CREATE TABLE t AS SELECT 1; SELECT pg_switch_wal()");
  await eventually(async () => expect(await archiving.archived()).toContain(current));
  expect(await expectStored(archiving)).toContain(current);
});

describe("a recovery whose fetch fails", () => {
  test.each([
    { what: "because the store is gone", harm: harmStore, rows: undefined },
    { what: "because an object in the middle is damaged", harm: harmObject, rows: undefined },
    { what: "because an object in the middle is missing", harm: harmGap, rows: undefined },
    { what: "because the key is wrong", harm: harmKey, rows: undefined },
    { what: "nowhere", harm: async () => undefined, rows: "3000" },
  ])(
    "$what never opens the server with rows missing",
    async ({ harm, rows }) => {
      await using archiving = await startArchiving({ repository: encryptedFolder, settings: { wal_keep_size: "0" } });
      const { cluster, folder } = archiving;
      const base = join(folder, "base");
      await cluster.psql("CREATE TABLE t (x int, y text)");
      await cluster.program("pg_basebackup", ["-D", base, "-X", "none", "-c", "fast"]);
      for (let round = 0; round < 3; round++) {
        await cluster.psql(
          "INSERT INTO t SELECT i, repeat('x', 500) FROM generate_series(1, 1000) i; SELECT pg_switch_wal()",
        );
      }
      await allArchived(archiving);
      await harm(archiving);
      const server = await recover(archiving, base);
      const found = server === undefined ? undefined : await ask(archiving, server, "SELECT count(*) FROM t");
      await server?.stop("immediate");
      expect(found).toBe(rows);
    },
    300_000,
  );
});

/** The recovered server; `undefined` when it has stopped without ever being opened. */
async function recover(archiving: Archiving, dataDir: string): Promise<RunningServer | undefined> {
  const { cluster, folder, restoreCommand } = archiving;
  await writeFile(join(dataDir, "recovery.signal"), "");
  const lines = ["", `restore_command = '${restoreCommand.replaceAll("'", "''")}'`, "archive_mode = off", ""];
  await writeFile(join(dataDir, "postgresql.auto.conf"), lines.join("\n"), { flag: "a" });
  const { runAs, binDir } = cluster;
  if (runAs !== undefined) await promisify(execFile)("chown", ["-R", `${runAs.uid}:${runAs.gid}`, dataDir]);
  await chmod(dataDir, 0o700);
  const log = join(folder, "recovery.log");
  await writeFile(log, "", { mode: 0o666 });
  await chmod(log, 0o666);
  let server: RunningServer | undefined;
  let ended = false;
  try {
    server = await startServer({ binDir, dataDir, runAs, log });
    const up = server;
    up.ended.then(() => {
      ended = true;
    });
    await eventually(async () => {
      if (!ended) expect(await ask(archiving, up, "SELECT pg_is_in_recovery()")).toBe("f");
    });
  } catch (error) {
    if (server !== undefined) throw error;
    ended = true;
  }
  if (!ended) return server;
  expect(await readFile(log, "utf8")).toMatch(/FATAL: {2}could not restore file "[0-9A-F]+(\.history)?"/);
  // It was never opened: that begins a new timeline.
  expect(await readdir(join(dataDir, "pg_wal"))).not.toContain("00000002.history");
  return undefined;
}

async function ask({ cluster }: Archiving, { socketDir, port }: RunningServer, sql: string): Promise<string> {
  return (await cluster.program("psql", ["-h", socketDir, "-p", String(port), "-XAtq", "-c", sql])).trim();
}

test("beneath a file system that is not mounted no segment is acknowledged, by the worker or a new process", async () => {
  const disk = await mkdtemp("/dev/shm/pgkit-");
  onTestFinished(async () => await rm(disk, { recursive: true, force: true }));
  await using archiving = await startArchiving({ repository: (folder) => onDisk(disk, folder) });
  const { cluster, folder } = archiving;
  await cluster.psql("CREATE TABLE rows AS SELECT generate_series(1, 1000) AS n");
  await allArchived(archiving);
  const beneath = join(folder, "store");
  await point(folder, beneath);
  for (let times = 0; times < 3; times += 1) {
    await cluster.psql("INSERT INTO rows SELECT generate_series(1, 1000)");
    await cluster.psql("SELECT pg_switch_wal()");
  }
  const [first = ""] = await eventuallyReady(archiving, 3);
  const failures = () => cluster.psql("SELECT failed_count FROM pg_stat_archiver");
  await eventually(async () => expect(Number(await failures())).toBeGreaterThan(0), 60_000);
  for (const pid of await workersOf(cluster.dataDir)) kill(pid);
  const { status, said } = await archiving.pgkit(["wal", "push", `pg_wal/${first}`]);
  expect([status, said]).toEqual([10, expect.stringMatching(/another file system than before/)]);
  expect([await archiving.ready(), await readdir(beneath)]).toEqual([expect.arrayContaining([first]), []]);
  // What a backup made there does not change that.
  await writeFile(join(beneath, "pgkit.json"), '{ "format": 1, "id": "other", "createdAt": "2026-11-21T00:00:00Z" }');
  expect((await archiving.pgkit(["wal", "push", `pg_wal/${first}`])).status).toBe(10);
  await point(folder, disk);
  await allArchived(archiving);
  expect(await archiving.fetch(first)).toBeDefined();
}, 180_000);

async function onDisk(disk: string, folder: string): Promise<Place> {
  const runAs = await unprivilegedUser();
  if (runAs !== undefined) await chown(disk, runAs.uid, runAs.gid);
  await point(folder, disk);
  const path = join(folder, "mounted");
  return { lines: [`repository: ${path}`], url: `file://${path}`, storage: {} };
}

/** As mounting does, the same path leads to another file system. */
async function point(folder: string, to: string): Promise<void> {
  await symlink(to, join(folder, "mounted.new"));
  await rename(join(folder, "mounted.new"), join(folder, "mounted"));
}

async function eventuallyReady(archiving: Archiving, least: number): Promise<string[]> {
  await eventually(async () => expect((await archiving.ready()).length).toBeGreaterThanOrEqual(least), 60_000);
  return await archiving.ready();
}

async function encryptedFolder(folder: string): Promise<Place> {
  const { line, identity } = await encryption(folder);
  const path = join(folder, "store");
  return { lines: [`repository: ${path}`, line], url: `file://${path}`, storage: {}, identity };
}

/** A file system that is not mounted looks so. */
async function harmStore({ repository }: Archiving): Promise<void> {
  await rename(repository, `${repository}.away`);
}

async function harmObject(archiving: Archiving): Promise<void> {
  const path = await inTheMiddle(archiving);
  const bytes = await readFile(path);
  bytes[bytes.length >> 1] = ~(bytes[bytes.length >> 1] ?? 0) & 0xff;
  await writeFile(path, bytes);
}

async function harmGap(archiving: Archiving): Promise<void> {
  const path = await inTheMiddle(archiving);
  await rm(path);
}

async function harmKey({ folder, config }: Archiving): Promise<void> {
  const { line: other } = await encryption(folder, "other");
  const text = await readFile(config, "utf8");
  await writeFile(config, text.replace(/^encryption: .*$/m, other));
}

/** Of the rows of the second of three rounds, or so. */
async function inTheMiddle({ repository }: Archiving): Promise<string> {
  const folder = join(repository, "wal");
  const files = (await readdir(folder, { recursive: true })).filter((name) => /[0-9A-F]{24}\.zst/.test(name)).sort();
  return join(folder, files.at(-3) ?? "");
}
