import { execFile } from "node:child_process";
import { chown, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { lastTransaction } from "../../src/wal/segment.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { expectAllOf, lsn, newPlace, openFolder, reference, seeded, storedWal, systemIdOf } from "./stream-support.ts";

const honest = { fsync: "on", synchronous_commit: "on", full_page_writes: "on" };

describe("pgkit wal stream, and an end of", () => {
  test("server and streamer at one moment: what was committed a flush and a few seconds before is stored", async () => {
    await using place = await newPlace();
    await using cluster = await startCluster({ settings: honest });
    await cluster.psql("CREATE TABLE t (n int, pad text)");
    await place.configure(cluster.url());
    const systemId = await systemIdOf(cluster);
    const streaming = place.stream();
    await place.caughtUp(cluster);
    // A flush is a second here; two busy cores take some more to compress and store it.
    const boundMs = await slowedDown(6_000);
    const commits = await commitFor(cluster, boundMs + 6_000);
    const endMs = Date.now();
    await Promise.all([streaming.kill("SIGKILL"), cluster.kill9()]);
    await rm(cluster.dataDir, { recursive: true, force: true });
    const stored = await storedWal(await openFolder(place.repository), systemId);
    const lastOne = [...stored.keys()].sort().at(-1) ?? "";
    const last = lastTransaction(stored.get(lastOne)?.content ?? Buffer.alloc(0));
    const mustBeThere = commits.filter((atMs) => atMs < endMs - boundMs).at(-1);
    expect(mustBeThere).toBeGreaterThan(0);
    expect(last?.time.getTime()).toBeGreaterThanOrEqual((mustBeThere ?? 0) - 50);
  }, 180_000);

  test("the server alone, its disk gone: all that was committed is stored", async () => {
    await using place = await newPlace();
    await using cluster = await startCluster({ settings: honest });
    await cluster.psql("CREATE TABLE t (n int, pad text)");
    await place.configure(cluster.url(), []);
    const systemId = await systemIdOf(cluster);
    const streaming = place.stream();
    await place.caughtUp(cluster);
    const commits = await commitFor(cluster, 1_500);
    // What is sent is read by pg_receivewal within a moment.
    await delay(200);
    await cluster.kill9();
    await rm(cluster.dataDir, { recursive: true, force: true });
    await eventually(async () => expect((await place.status()).state).toBe("disconnected"));
    expect(await streaming.kill("SIGTERM")).toBe(0);
    const stored = await storedWal(await openFolder(place.repository), systemId);
    const last = lastTransaction(stored.get([...stored.keys()].sort().at(-1) ?? "")?.content ?? Buffer.alloc(0));
    expect(last?.time.getTime()).toBeGreaterThanOrEqual((commits.at(-1) ?? 0) - 50);
  });

  test("pgkit, by SIGKILL at 20 moments under load: every segment is stored as the server wrote it", async () => {
    const archived = await mkdtemp(join(tmpdir(), "pgkit-reference-"));
    try {
      await using place = await newPlace();
      await using cluster = await startCluster({ settings: reference(archived) });
      if (cluster.runAs !== undefined) await chown(archived, cluster.runAs.uid, cluster.runAs.gid);
      await cluster.psql("CREATE TABLE t (n int, pad text)");
      await place.configure(cluster.url());
      const stop = new AbortController();
      const load = writeUntil(cluster, stop.signal);
      const random = seeded(20_261_121);
      for (let kills = 0; kills < 20; kills += 1) {
        const streaming = place.stream();
        await delay(400 + random() * 2_600);
        await streaming.kill("SIGKILL");
      }
      await eventually(async () => expect((await readdir(archived)).length).toBeGreaterThan(4), 60_000);
      stop.abort();
      await load;
      await cluster.psql("SELECT pg_switch_wal()");
      const streaming = place.stream();
      await place.caughtUp(cluster, 60_000);
      expect(await receivers(cluster)).toBe(1);
      expect(await streaming.kill("SIGTERM"), streaming.said()).toBe(0);
      await eventually(async () => expect(await receivers(cluster)).toBe(0));
      const stored = await storedWal(await openFolder(place.repository), await systemIdOf(cluster));
      const names = await eventually(async () => {
        const done = await expectAllOf(archived, stored);
        expect(await cluster.psql("SELECT failed_count FROM pg_stat_archiver")).toBe("0");
        return done;
      });
      expect(names.length).toBeGreaterThan(4);
    } finally {
      await rm(archived, { recursive: true, force: true });
    }
  }, 240_000);

  test("pg_receivewal, the server's process, or the server: it goes on, says so once, and loses nothing", async () => {
    await using place = await newPlace();
    await using cluster = await startCluster({ settings: honest });
    await cluster.psql("CREATE TABLE t (n int, pad text)");
    await place.configure(cluster.url());
    const streaming = place.stream();
    await place.caughtUp(cluster);
    await cluster.psql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication");
    await cluster.psql("INSERT INTO t SELECT n, repeat('x', 200) FROM generate_series(1, 1000) n");
    await place.caughtUp(cluster);
    await cluster.psql(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgkit wal stream'",
    );
    await cluster.psql("INSERT INTO t SELECT n, repeat('x', 200) FROM generate_series(1, 1000) n");
    await place.caughtUp(cluster);
    await cluster.kill9();
    await eventually(async () => expect((await place.status()).state).toBe("disconnected"));
    await delay(4_000);
    await cluster.restart();
    await cluster.psql("INSERT INTO t SELECT n, repeat('x', 200) FROM generate_series(1, 1000) n");
    await place.caughtUp(cluster, 60_000);
    expect(await streaming.kill("SIGTERM")).toBe(0);
    const troubles = streaming.said().match(/trying again/g) ?? [];
    expect(troubles.length, streaming.said()).toBeLessThanOrEqual(5);
    expect(streaming.said()).toMatch(/works again after \d+ s/);
  }, 300_000);

  test("nothing: an idle server has nothing uploaded, and what is stored is told", async () => {
    await using place = await newPlace();
    await using cluster = await startCluster({ settings: { ...honest, autovacuum: "off" } });
    await place.configure(cluster.url());
    const streaming = place.stream();
    await place.caughtUp(cluster);
    const walFolder = join(place.repository, "wal", "shared", await systemIdOf(cluster), "00000001");
    await eventually(async () => expect((await place.status()).lagBytes).toBe(0));
    const before = await readdir(walFolder);
    const partial = await readFile(join(walFolder, before[0] ?? ""));
    await delay(3_500);
    expect(await readdir(walFolder)).toEqual(before);
    expect((await readFile(join(walFolder, before[0] ?? ""))).equals(partial)).toBe(true);
    const status = await place.status();
    expect(status).toMatchObject({
      state: "streaming",
      slot: "pgkit_shared",
      lagBytes: 0,
      lagSeconds: 0,
      troubles: [],
    });
    const [slot] = (await cluster.psql("SELECT restart_lsn FROM pg_replication_slots")).split("\n");
    expect(lsn(slot ?? "0/0")).toBe(lsn(status.storedLsn ?? "0/1"));
    expect(await streaming.kill("SIGTERM")).toBe(0);
    expect((await place.status()).state).toBe("stopped");
  });
});

/** A bound of a calm machine for this one as it is now: by how long a process takes to start, which is 50 ms there. */
async function slowedDown(ms: number): Promise<number> {
  const startMs = performance.now();
  for (let times = 0; times < 5; times += 1) await promisify(execFile)(process.execPath, ["-e", "0"]);
  return ms * Math.min(10, Math.max(1, (performance.now() - startMs) / 5 / 100));
}

/** The moments at which commits were acknowledged. */
async function commitFor(cluster: Cluster, ms: number): Promise<number[]> {
  const client = await cluster.connect();
  client.on("error", () => undefined);
  const acknowledged: number[] = [];
  const endMs = Date.now() + ms;
  while (Date.now() < endMs) {
    const { rows } = await client.query("INSERT INTO t VALUES (1, repeat('x', 300)) RETURNING clock_timestamp() AS at");
    acknowledged.push(rows[0].at.getTime());
  }
  client.end().catch(() => undefined);
  return acknowledged;
}

async function writeUntil(cluster: Cluster, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await cluster.psql("INSERT INTO t SELECT n, md5(n::text) || random() FROM generate_series(1, 6000) n");
    await delay(50);
  }
}

async function receivers(cluster: Cluster): Promise<number> {
  return Number(await cluster.psql("SELECT count(*) FROM pg_stat_replication"));
}
