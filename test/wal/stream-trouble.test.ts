import { chown, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { generateX25519Identity, identityToRecipient } from "age-encryption";
import { describe, expect, test } from "vitest";
import { openRepository, type Repository } from "../../src/repo/repository.ts";
import { readGaps } from "../../src/repo/wal.ts";
import { s3Store } from "../../src/store/s3.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { startS3 } from "../support/s3.ts";
import { expectAllOf, lsn, newPlace, openFolder, reference, storedWal, systemIdOf } from "./stream-support.ts";

describe("pgkit wal stream", () => {
  test("follows a promotion behind one address, with no gap and both timelines' files", async () => {
    const archived = await mkdtemp(join(tmpdir(), "pgkit-reference-"));
    await using place = await newPlace();
    await using primary = await startCluster({ settings: reference(archived) });
    await using standby = await standbyOf(primary, archived);
    try {
      await own(archived, primary);
      await primary.psql("CREATE TABLE t (n int, pad text)");
      const hosts = `${primary.host}:${primary.port},${standby.host}:${standby.port}`;
      const url = primary.url().replace(`${primary.host}:${primary.port}`, hosts);
      await place.configure(`${url}?target_session_attrs=read-write`);
      const streaming = place.stream();
      await place.caughtUp(primary);
      await write(primary, 3);
      await place.caughtUp(primary);
      await eventually(async () => {
        expect(await standby.psql("SELECT pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()")).toBe("t");
      });
      await primary.kill9();
      await standby.psql("SELECT pg_promote()");
      await write(standby, 3);
      await place.caughtUp(standby, 60_000);
      expect((await place.status()).timeline).toBe(2);
      expect(await streaming.kill("SIGTERM"), streaming.said()).toBe(0);
      const stored = await storedWal(await openFolder(place.repository), await systemIdOf(standby));
      expect(stored.get("00000002.history")?.content.toString()).toMatch(/^1\t/);
      expect((await expectAllOf(archived, stored)).some((name) => name.startsWith("00000002"))).toBe(true);
      expectNoHole([...stored.keys()]);
      expect(await readGaps(await openFolder(place.repository), await lineageOf(standby))).toEqual([]);
    } finally {
      await rm(archived, { recursive: true, force: true });
    }
  }, 180_000);

  test("says what is lost when the server removed WAL, records the gap, and goes on behind it", async () => {
    await using place = await newPlace();
    const settings = { max_slot_wal_keep_size: "32MB", max_wal_size: "32MB", min_wal_size: "32MB" };
    await using cluster = await startCluster({ settings });
    await cluster.psql("CREATE TABLE t (n int, pad text)");
    await place.configure(cluster.url());
    const first = place.stream();
    await place.caughtUp(cluster);
    expect(await first.kill("SIGTERM")).toBe(0);
    const storedTo = (await place.status()).storedLsn ?? "";
    await write(cluster, 8);
    await cluster.psql("CHECKPOINT");
    expect(await cluster.psql("SELECT wal_status FROM pg_replication_slots")).toBe("lost");
    const second = place.stream();
    await place.caughtUp(cluster);
    expect(await second.kill("SIGTERM"), second.said()).toBe(0);
    const [gap, ...more] = await readGaps(await openFolder(place.repository), await lineageOf(cluster));
    expect(more).toEqual([]);
    expect(gap?.timeline).toBe(1);
    const from = gap?.fromLsn ?? 0n;
    expect(from).toBeGreaterThan(lsn(storedTo) - 2n ** 24n);
    expect(from).toBeLessThanOrEqual(lsn(storedTo));
    expect(second.said()).toMatch(/slot-lost: WAL of shared from [0-9A-F/]+ to [0-9A-F/]+ on timeline 1 is lost/);
    expect(second.said()).toMatch(/the last transaction before it was at \d{4}-/);
    expect(second.said()).toContain("pgkit backup base");
  }, 300_000);

  test("keeps all through an outage of S3, encrypted, and catches up", async () => {
    const archived = await mkdtemp(join(tmpdir(), "pgkit-reference-"));
    const s3 = await startS3("old");
    const bucket = await s3.newBucket();
    await using gate = await gateTo(s3.endpoint);
    await using place = await newPlace();
    await using cluster = await startCluster({ settings: reference(archived) });
    try {
      await own(archived, cluster);
      await cluster.psql("CREATE TABLE t (n int, pad text)");
      const identity = await generateX25519Identity();
      await writeFile(join(place.folder, "key"), identity, { mode: 0o600 });
      await place.configure(
        cluster.url(),
        [],
        [
          `repository: s3://${bucket}/some/where`,
          "storage:",
          ...[`endpoint: ${gate.endpoint}`, `region: ${s3.region}`, "pathStyle: true"].map((line) => `  ${line}`),
          ...[`accessKeyId: ${s3.accessKeyId}`, `secretAccessKey: ${s3.secretAccessKey}`].map((line) => `  ${line}`),
          "encryption:",
          `  recipients: [${await identityToRecipient(identity)}]`,
        ],
      );
      const streaming = place.stream();
      await place.caughtUp(cluster);
      gate.close();
      await write(cluster, 4);
      await eventually(async () => expect((await place.status()).troubles.length).toBe(1));
      const before = lsn((await place.status()).storedLsn ?? "");
      const held = lsn(await cluster.psql("SELECT restart_lsn FROM pg_replication_slots"));
      expect(held).toBeLessThanOrEqual(before);
      await eventually(async () => expect((await place.status()).waitingSegments).toBeGreaterThanOrEqual(3));
      gate.open();
      await write(cluster, 1);
      await place.caughtUp(cluster, 90_000);
      expect(await streaming.kill("SIGTERM"), streaming.said()).toBe(0);
      const repository = await inS3(s3, bucket, identity);
      const stored = await storedWal(repository, await systemIdOf(cluster));
      expect((await expectAllOf(archived, stored)).length).toBeGreaterThanOrEqual(5);
      expect([...stored.values()].every(({ file }) => file.encoding.includes("age"))).toBe(true);
      expect(streaming.said().match(/trying again/g)?.length, streaming.said()).toBeLessThanOrEqual(3);
    } finally {
      await rm(archived, { recursive: true, force: true });
    }
  }, 240_000);

  test("with onFull: gap drops the slot when S3 takes nothing, then records the gap and takes a base backup", async () => {
    const s3 = await startS3("new");
    const bucket = await s3.newBucket();
    await using gate = await gateTo(s3.endpoint);
    await using place = await newPlace();
    const settings = { max_wal_size: "32MB", min_wal_size: "32MB" };
    await using cluster = await startCluster({ settings });
    await cluster.psql("CREATE TABLE t (n int, pad text)");
    // All that fits into the folder here is stored all the same: more is written than that.
    const archive = ["onFull: gap", "warnBytes: 16MiB", "alertBytes: 96MiB"];
    await place.configure(cluster.url(), archive, storageOf(s3, bucket, gate.endpoint));
    const streaming = place.stream();
    await place.caughtUp(cluster);
    gate.close();
    await write(cluster, 7);
    await eventually(async () => expect((await place.status()).state).toBe("given-up"), 120_000);
    expect(await cluster.psql("SELECT count(*) FROM pg_replication_slots")).toBe("0");
    await write(cluster, 6);
    await cluster.psql("CHECKPOINT");
    await write(cluster, 1);
    gate.open();
    await place.caughtUp(cluster, 90_000);
    const repository = await inS3(s3, bucket, "");
    const [gap] = await eventually(async () => {
      const gaps = await readGaps(repository, await lineageOf(cluster));
      expect(gaps.length, streaming.said()).toBe(1);
      return gaps;
    });
    expect(gap?.toLsn).toBeGreaterThan(gap?.fromLsn ?? 0n);
    await eventually(() => expect(streaming.said()).toMatch(/base backup base-\S+ was taken after the gap/), 120_000);
    expect(await streaming.kill("SIGTERM"), streaming.said()).toBe(0);
    expect(streaming.said()).toMatch(/ALERT: the slot pgkit_shared was dropped \(onFull: gap\)/);
    const names = [...(await storedWal(repository, await systemIdOf(cluster))).keys()];
    const inGap = names.map(startOf).filter((start) => start > (gap?.fromLsn ?? 0n) && start < (gap?.toLsn ?? 0n));
    expect(inGap).toEqual([]);
  }, 420_000);

  test("stores what a killed run had received when the server is gone for good", async () => {
    await using place = await newPlace();
    await using cluster = await startCluster();
    await cluster.psql("CREATE TABLE t (n int, pad text)");
    await place.configure(cluster.url(), []);
    const first = place.stream();
    await place.caughtUp(cluster);
    // What arrives after the last flush is only here.
    first.process.kill("SIGSTOP");
    await cluster.psql("INSERT INTO t SELECT n, md5(n::text) FROM generate_series(1, 5000) n");
    const end = lsn(await cluster.psql("SELECT pg_current_wal_flush_lsn()"));
    await eventually(async () => {
      expect(await cluster.psql("SELECT sent_lsn = pg_current_wal_flush_lsn() FROM pg_stat_replication")).toBe("t");
    });
    await first.kill("SIGKILL");
    await cluster.kill9();
    await rm(cluster.dataDir, { recursive: true, force: true });
    const second = place.stream();
    const partials = join(place.repository, "wal", "shared");
    await eventually(async () => {
      const names = (await readdir(partials, { recursive: true })).filter((name) => name.endsWith(".partial.zst"));
      const repository = await openFolder(place.repository);
      const [systemId = ""] = (names[0] ?? "").split("/");
      const [name, last] =
        [...(await storedWal(repository, systemId))].sort(([a], [b]) => (a < b ? -1 : 1)).at(-1) ?? [];
      const start = startOf(name ?? "");
      expect(start + BigInt(last?.content.length ?? 0)).toBeGreaterThan(end - 64n);
    });
    await second.kill("SIGTERM");
  }, 300_000);
});

function storageOf(s3: Awaited<ReturnType<typeof startS3>>, bucket: string, endpoint: string): string[] {
  return [
    `repository: s3://${bucket}/some/where`,
    "storage:",
    ...[`endpoint: ${endpoint}`, `region: ${s3.region}`, "pathStyle: true"].map((line) => `  ${line}`),
    ...[`accessKeyId: ${s3.accessKeyId}`, `secretAccessKey: ${s3.secretAccessKey}`].map((line) => `  ${line}`),
  ];
}

/** Of a segment of 16 MiB. */
function startOf(name: string): bigint {
  return BigInt(`0x${name.slice(16, 24)}`) << 24n;
}

async function own(folder: string, { runAs }: Cluster): Promise<void> {
  if (runAs !== undefined) await chown(folder, runAs.uid, runAs.gid);
}

/** Fills and closes so many segments. */
async function write(cluster: Cluster, segments: number): Promise<void> {
  for (let done = 0; done < segments; done += 1) {
    await cluster.psql("INSERT INTO t SELECT n, md5(n::text) || md5(random()::text) FROM generate_series(1, 20000) n");
    await cluster.psql("SELECT pg_switch_wal()");
  }
}

async function lineageOf(cluster: Cluster) {
  return { instance: "shared", systemId: await systemIdOf(cluster) };
}

/** From the first to the last segment each is there, on one of the timelines. */
function expectNoHole(names: readonly string[]): void {
  const places = names.filter((name) => /^[0-9A-F]{24}(\.partial)?$/.test(name)).map((name) => name.slice(8, 24));
  const numbers = [...new Set(places)].map((place) => Number.parseInt(place.slice(8), 16)).sort((a, b) => a - b);
  expect(numbers).toEqual(numbers.map((_, index) => (numbers[0] ?? 0) + index));
}

/** A standby on a port of its own, made by pg_basebackup. */
async function standbyOf(primary: Cluster, archived: string): Promise<Cluster> {
  const standby = await startCluster({ settings: reference(archived) });
  await standby.stop();
  await rm(standby.dataDir, { recursive: true });
  await primary.program("pg_basebackup", ["-D", standby.dataDir, "-X", "stream", "-c", "fast", "-R"]);
  await chownAll(standby);
  await standby.restart();
  return Object.assign(standby, { password: primary.password, ...asPrimary(standby, primary) });
}

/** It has the primary's users. */
function asPrimary(standby: Cluster, primary: Cluster): Pick<Cluster, "psql"> {
  return {
    psql: async (sql) => {
      const client = new (await import("pg")).default.Client({
        ...{ host: standby.host, port: standby.port, user: primary.superuser, password: primary.password },
        database: "postgres",
      });
      await client.connect();
      try {
        const { rows } = await client.query({ text: sql, rowMode: "array" });
        return rows
          .map((row) => row.map((value: unknown) => (value === true ? "t" : String(value))).join("|"))
          .join("\n");
      } finally {
        await client.end();
      }
    },
  };
}

async function chownAll({ dataDir, runAs }: Cluster): Promise<void> {
  if (runAs === undefined) return;
  for (const name of ["", ...(await readdir(dataDir, { recursive: true }))]) {
    await chown(join(dataDir, name), runAs.uid, runAs.gid);
  }
}

/** A TCP gate before a server, which refuses and cuts every connection while it is closed. */
async function gateTo(endpoint: string) {
  const { hostname, port } = new URL(endpoint);
  const sockets = new Set<Socket>();
  let isOpen = true;
  const server = createServer((socket) => {
    if (!isOpen) return void socket.destroy();
    const behind = connect(Number(port), hostname);
    for (const [from, to] of [
      [socket, behind],
      [behind, socket],
    ] as const) {
      sockets.add(from);
      from.pipe(to);
      from.on("error", () => to.destroy());
      from.on("close", () => sockets.delete(from));
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("a TCP server has no port");
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    endpoint: `http://127.0.0.1:${address.port}`,
    close: () => {
      isOpen = false;
      cut();
    },
    open: () => {
      isOpen = true;
    },
    [Symbol.asyncDispose]: async () => {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

async function inS3(
  { endpoint, region, accessKeyId, secretAccessKey }: Awaited<ReturnType<typeof startS3>>,
  bucket: string,
  identity: string,
): Promise<Repository> {
  const credentials = { accessKeyId, secretAccessKey };
  const store = s3Store({ bucket, prefix: "some/where", region, endpoint, pathStyle: true, credentials });
  const settings = { compression: { level: 3, threads: 1 }, recipients: [], volumeBytes: 2 ** 30 };
  return await openRepository(store, { ...settings, identities: async () => [identity] });
}
