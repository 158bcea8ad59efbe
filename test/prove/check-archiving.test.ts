import { describe, expect, it, onTestFinished } from "vitest";
import { systemClock } from "../../src/lib/time.ts";
import type { InstanceUnderCheck } from "../../src/prove/checks/instance.ts";
import { openOrCreateRepository, type Repository } from "../../src/repo/repository.ts";
import { createLineage, putWal } from "../../src/repo/wal.ts";
import { memoryStore } from "../../src/store/memory.ts";
import type { ObjectStore } from "../../src/store/store.ts";
import { repositoryIn, settings, storeBackup } from "../repo/support.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { checked, instanceOn, repositoryOf } from "./support.ts";

const subject = "archiving of shared";
const expected: NonNullable<InstanceUnderCheck["archiving"]> = {
  ...{ instance: "shared", method: "archive", slot: "pgkit_shared", archiveCommand: "false", flushEveryMs: 5000 },
  ...{ warnBytes: 1024 ** 3, alertBytes: 1024 ** 4, warnAfterMs: 300_000, alertAfterMs: 900_000 },
  ...{ rpoMs: undefined, intended: true, streamer: async () => undefined },
};

async function serverWith(started: Record<string, string> = {}): Promise<Cluster> {
  const cluster = await startCluster({ settings: started });
  onTestFinished(async () => await cluster[Symbol.asyncDispose]());
  return cluster;
}

async function checkedOn(cluster: Cluster, store: ObjectStore, rest: Partial<typeof expected> = {}, base?: string) {
  const schedule = { logical: undefined, base, timeZone: "UTC", graceMs: 3_600_000 };
  const instances = [instanceOn(cluster, { schedule, archiving: { ...expected, ...rest } })];
  return await checked({ instances, repositories: [repositoryOf(store)] });
}

async function systemIdOf(cluster: Cluster): Promise<string> {
  return await cluster.psql("SELECT system_identifier FROM pg_control_system()");
}

async function begin(repository: Repository, systemId: string): Promise<void> {
  const facts = { instance: "shared", systemId, segmentBytes: 16 * 1024 ** 2, serverVersion: "17.6" };
  await createLineage(repository, facts, systemClock);
}

describe("pgkit check of archiving", () => {
  it("is an error when it is meant to be and is not set up, with the command that does it; else only said", async () => {
    const cluster = await serverWith();
    const meant = await checkedOn(cluster, memoryStore());
    expect(meant.of("archiving", subject)).toMatchObject([{ level: "error", remedy: "pgkit pitr enable shared" }]);
    expect(meant.status).toBe(40);
    const not = await checkedOn(cluster, memoryStore(), { intended: false });
    expect(not.of("archiving", subject)).toMatchObject([
      { level: "ok", message: expect.stringContaining("not set up") },
    ]);
    expect(not.status).toBe(0);
  });

  it("tells of an archive_command that fails at its first failure, whosever it is, and of what waits", async () => {
    const cluster = await serverWith({ archive_mode: "on", archive_command: "false", archive_timeout: "60" });
    await cluster.psql("CREATE TABLE a (); SELECT pg_switch_wal()");
    await eventually(async () => expect(await cluster.psql("SELECT failed_count > 0 FROM pg_stat_archiver")).toBe("t"));
    const message = expect.stringMatching(
      /^archive_command fails: last at .* for 00000001.*; nothing was ever archived$/,
    );
    const ours = await checkedOn(cluster, memoryStore());
    expect(ours.of("archiver", subject)).toMatchObject([{ level: "error", message }]);
    expect(ours.of("backlog", subject)).toMatchObject([{ level: "ok", message: expect.stringContaining("1 file(s)") }]);
    const few = await checkedOn(cluster, memoryStore(), { warnBytes: 1, alertBytes: 1024 ** 4 });
    expect(few.of("backlog", subject)).toMatchObject([{ level: "warning" }]);
    const theirs = await checkedOn(cluster, memoryStore(), { archiveCommand: "pgkit", intended: false });
    expect(theirs.of("archiver", subject)).toMatchObject([
      { level: "error", message: expect.stringContaining("not pgkit's") },
    ]);
  });

  it("tells that another archive_command is in the place of pgkit's", async () => {
    const cluster = await serverWith({ archive_mode: "on", archive_command: "cp %p /nowhere/%f" });
    const found = await checkedOn(cluster, memoryStore());
    expect(found.of("archiving", subject)).toMatchObject([
      {
        level: "error",
        message: expect.stringContaining("cp %p /nowhere/%f"),
        remedy: expect.stringContaining("--replace-command"),
      },
    ]);
  });

  it("tells that a restart is pending", async () => {
    const cluster = await serverWith({ archive_timeout: "60" });
    await cluster.psql("ALTER SYSTEM SET archive_command = 'false'");
    await cluster.psql("ALTER SYSTEM SET archive_mode = 'on'");
    await cluster.psql("SELECT pg_reload_conf()");
    await eventually(async () => {
      const { of } = await checkedOn(cluster, memoryStore());
      expect(of("archiving", subject)).toMatchObject([
        { level: "error", message: expect.stringContaining("waits for a restart") },
      ]);
    });
  });

  it("tells that the slot is there and the streamer is not, and what the slot keeps", async () => {
    const cluster = await serverWith();
    await cluster.psql("SELECT pg_create_physical_replication_slot('pgkit_shared', true)");
    await cluster.psql("CREATE TABLE a AS SELECT i FROM generate_series(1, 100000) i");
    const stream = { method: "stream" as const, archiveCommand: "pgkit" };
    const found = await checkedOn(cluster, memoryStore(), { ...stream, warnBytes: 1024 ** 2 });
    expect(found.of("streamer", subject)).toMatchObject([{ message: expect.stringContaining("not connected") }]);
    expect(found.of("slot", subject)).toMatchObject([
      { level: "warning", message: expect.stringMatching(/keeps .* MiB of WAL/) },
    ]);
  });

  it("tells of a slot that the server has taken the WAL away from", async () => {
    const cluster = await serverWith({ max_slot_wal_keep_size: "16MB", max_wal_size: "32MB", min_wal_size: "32MB" });
    await cluster.psql("SELECT pg_create_physical_replication_slot('pgkit_shared', true)");
    for (let times = 0; times < 6; times++)
      await cluster.psql("CREATE TABLE IF NOT EXISTS a (); SELECT pg_switch_wal(); DROP TABLE a");
    await cluster.psql("CHECKPOINT");
    const found = await checkedOn(cluster, memoryStore(), { method: "stream" });
    expect(found.of("slot", subject)).toMatchObject([{ level: "error", code: "slot-lost" }]);
  });

  it("tells of another cluster's WAL under the name, and of WAL without a base backup", async () => {
    const cluster = await serverWith();
    const [other, own] = [memoryStore(), memoryStore()];
    await begin(await repositoryIn(other), "7000000000000000009");
    const foreign = await checkedOn(cluster, other);
    expect(foreign.of("stored wal", subject)).toMatchObject([{ level: "error", code: "system-mismatch" }]);
    await begin(await repositoryIn(own), await systemIdOf(cluster));
    const alone = await checkedOn(cluster, own);
    expect(alone.of("base backup", subject)).toMatchObject([
      { level: "error", remedy: "pgkit backup base --instance shared" },
    ]);
  });

  it("needs no private key for what is encrypted, timeline histories among it", async () => {
    const cluster = await serverWith();
    const store = memoryStore();
    const recipients = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"];
    const repository = await openOrCreateRepository(store, { ...settings, recipients }, systemClock);
    const systemId = await systemIdOf(cluster);
    await begin(repository, systemId);
    const history = Buffer.from("1\t0/3000000\tno recovery target specified\n");
    await putWal(repository, { instance: "shared", systemId }, "00000002.history", history);
    const found = await checkedOn(cluster, store);
    expect(found.of("stored wal", subject)).toMatchObject([{ level: "ok" }]);
  });

  it("tells of a base backup that is overdue, and of none", async () => {
    const cluster = await serverWith();
    const [old, none] = [memoryStore(), memoryStore()];
    const repository = await repositoryIn(old);
    await storeBackup(repository, { id: "base-1", kind: "base", startedAt: "2026-01-01T01:30:00Z" });
    await repositoryIn(none);
    const late = await checkedOn(cluster, old, {}, "30 1 * * *");
    expect(late.of("base overdue")).toMatchObject([
      {
        level: "error",
        message: expect.stringMatching(/no base backup of 2026-01-02/),
        remedy: expect.stringContaining("pgkit backup base"),
      },
    ]);
    expect((await checkedOn(cluster, none, {}, "30 1 * * *")).of("base overdue")).toMatchObject([{ level: "warning" }]);
    expect((await checkedOn(cluster, none)).of("base overdue")).toEqual([]);
    expect((await checkedOn(cluster, none, {}, "30 25 * * *")).of("base schedule")).toMatchObject([
      { level: "error", code: "config" },
    ]);
  });

  it("shows what a user without pg_monitor may see, and says what is missing", async () => {
    const cluster = await serverWith({ archive_mode: "on", archive_command: "false" });
    await cluster.psql("CREATE ROLE limited LOGIN PASSWORD 'x' IN ROLE pg_read_all_data");
    const limited = { user: "limited", password: "x", archiving: expected };
    const found = await checked({
      instances: [instanceOn(cluster, limited)],
      repositories: [repositoryOf(memoryStore())],
    });
    expect(found.of("archiving privileges", subject)).toMatchObject([
      { level: "warning", remedy: expect.stringContaining("pg_monitor") },
    ]);
    expect(found.of("disk", subject)).toMatchObject([{ level: "ok", message: expect.stringContaining("not known") }]);
    expect(found.bugs).toEqual([]);
  });
});
