import { expect, it } from "vitest";
import { commitBackup, listBackups } from "../../src/repo/backups.ts";
import { readInventory } from "../../src/repo/inventory.ts";
import { backupLease, withLease } from "../../src/repo/lease.ts";
import { planWithLocks } from "../../src/repo/plan-prune.ts";
import { prune } from "../../src/repo/prune.ts";
import type { Repository } from "../../src/repo/repository.ts";
import { createLineage, listWal, putWal, recordGap } from "../../src/repo/wal.ts";
import { faultyStore } from "../../src/store/faulty.ts";
import { memoryStore } from "../../src/store/memory.ts";
import type { ObjectStore } from "../../src/store/store.ts";
import { fakeClock } from "../support/fake-clock.ts";
import { keysOf, reports, repositoryIn } from "./support.ts";
import { at, baseOf, nameAt, range, segmentBytes } from "./wal-support.ts";

const lineage = { instance: "shared", systemId: "7000000000000000001" };
const policies = new Map([["shared", { logical: {}, base: { keepLast: 2 } }]]);

/** Four base backups, one of them incremental, among twelve segments. */
async function setUp(make: (clock: ReturnType<typeof fakeClock>) => ObjectStore = (clock) => memoryStore({ clock })) {
  const clock = fakeClock("2026-11-21T02:00:00Z");
  const repository = await repositoryIn(make(clock));
  await createLineage(repository, { ...lineage, segmentBytes, serverVersion: "17.2" }, clock);
  for (const segment of range(1, 12)) await putWal(repository, lineage, nameAt(1, segment), Buffer.from(`${segment}`));
  await recordGap(repository, lineage, { timeline: 1, fromLsn: at(0), toLsn: at(1), reason: "early" }, clock);
  const backups = [
    baseOf({ id: "base-1", start: 2 }),
    baseOf({ id: "base-2", start: 4, parent: "base-1" }),
    baseOf({ id: "base-3", start: 6 }),
    baseOf({ id: "base-4", start: 9 }),
  ];
  for (const backup of backups) await commit(repository, backup);
  return { clock, repository };
}

async function commit(repository: Repository, backup: ReturnType<typeof baseOf>): Promise<void> {
  for (const { volumes } of backup.files) {
    for (const { key } of volumes) await repository.store.put(key, Buffer.from(`content of ${key}`));
  }
  await commitBackup(repository, { ...backup, repository: repository.id });
}

async function planFor(repository: Repository, clock: ReturnType<typeof fakeClock>) {
  const now = clock.now();
  const inventory = await readInventory(repository, { storeNow: now });
  return await planWithLocks(repository, inventory, { policies, timeZone: "UTC", now });
}

async function segmentsIn(repository: Repository): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of listWal(repository, lineage)) names.push(name);
  return names;
}

const idsIn = async (repository: Repository) => (await listBackups(repository)).backups.map(({ id }) => id);
const options = (clock: ReturnType<typeof fakeClock>) => ({
  ...{ clock, report: reports().report, ttlMs: 60_000 },
  holder: { host: "here", pid: 1, command: "a test" },
});

it("WAL goes after the backups that needed it, oldest first, and with it the records of gaps before", async () => {
  const { clock, repository } = await setUp();
  const deleted: string[] = [];
  const watching = {
    ...repository,
    store: {
      ...repository.store,
      delete: async (keys: readonly string[]) => {
        deleted.push(...keys);
        await repository.store.delete(keys);
      },
    },
  };
  const plan = await planFor(repository, clock);
  const result = await prune(watching, plan, options(clock));
  expect(await idsIn(repository)).toEqual(["base-3", "base-4"]);
  expect(await segmentsIn(repository)).toEqual(range(6, 12).map((segment) => nameAt(1, segment)));
  expect(result.wal).toMatchObject([{ ...lineage, files: 5, gaps: 1 }]);
  expect(await keysOf(repository.store, `wal/shared/${lineage.systemId}/gaps/`)).toEqual([]);
  const wal = deleted.filter((key) => key.startsWith("wal/") && !key.includes("/gaps/"));
  expect(wal).toEqual(
    range(1, 5).map((segment) => `wal/shared/${lineage.systemId}/00000001/${nameAt(1, segment)}.zst`),
  );
  const lastOther = deleted.findLastIndex((key) => /^(backups|files)\//.test(key));
  expect(lastOther).toBeLessThan(deleted.findIndex((key) => key.startsWith("wal/")));
});

it("a prune that is cut at any moment leaves every backup that is listed with all the WAL from its start on", async () => {
  const total = await callsOfPrune();
  let cut = 0;
  for (let call = 1; call <= total; call++) {
    const { clock, repository } = await setUp();
    const plan = await planFor(repository, clock);
    const store = faultyStore(repository.store, [{ call, does: "fail", times: 1000 }]);
    await prune({ ...repository, store }, plan, options(clock)).catch(() => {
      cut++;
    });
    const left = new Set(await segmentsIn(repository));
    for (const id of await idsIn(repository)) {
      const start = { "base-1": 2, "base-2": 4, "base-3": 6, "base-4": 9 }[id] ?? 0;
      for (const segment of range(start, 12)) expect(left, `${id} after call ${call}`).toContain(nameAt(1, segment));
    }
    // The next run completes it.
    await clock.advance(300_000);
    await prune(repository, await planFor(repository, clock), options(clock));
    expect(await segmentsIn(repository)).toEqual(range(6, 12).map((segment) => nameAt(1, segment)));
  }
  expect(cut).toBeGreaterThan(20);
});

async function callsOfPrune(): Promise<number> {
  const { clock, repository } = await setUp();
  const plan = await planFor(repository, clock);
  const store = faultyStore(repository.store, []);
  await prune({ ...repository, store }, plan, options(clock));
  return store.calls();
}

it("while a backup of the instance is under way, its base backups and its WAL stay, also when it began after the plan was made", async () => {
  const { clock, repository } = await setUp();
  await commit(repository, baseOf({ id: "base-5", instance: "other", start: 1 }));
  const all = await segmentsIn(repository);
  await withLease(repository, backupLease("shared"), options(clock), async () => {
    const during = await planFor(repository, clock);
    expect(during.remove).toEqual([]);
    expect(during.wal).toMatchObject([{ remove: [], reasons: ["a backup of shared is under way"] }]);
  });
  // The plan is made, and then an incremental backup begins, on whichever base backup it found.
  const before = await planFor(repository, clock);
  expect(before.remove.map(({ id }) => id)).toEqual(["base-2", "base-1"]);
  await withLease(repository, backupLease("shared"), options(clock), async () => {
    const result = await prune(repository, before, options(clock));
    expect(result).toMatchObject({ removed: [], wal: [{ files: 0, skipped: "a backup of shared is under way" }] });
  });
  expect(await idsIn(repository)).toHaveLength(5);
  expect(await segmentsIn(repository)).toEqual(all);
});

it("WAL stays when a backup that was to go is pinned after the plan was made", async () => {
  const { clock, repository } = await setUp();
  const plan = await planFor(repository, clock);
  const { pin } = await import("../../src/repo/keep.ts");
  await pin(repository, "base-1", { clock, until: "forever", by: "alice" });
  const result = await prune(repository, plan, options(clock));
  expect(result.wal).toMatchObject([{ files: 0, skipped: "base-1 stays, and may need it" }]);
  expect(await segmentsIn(repository)).toHaveLength(12);
});

it("a record that cannot be read stops neither the prune nor costs any WAL of that timeline", async () => {
  const { clock, repository } = await setUp();
  await putWal(repository, lineage, "00000002.history", Buffer.from("damaged"));
  await putWal(repository, lineage, nameAt(2, 3), Buffer.from("x"));
  const plan = await planFor(repository, clock);
  expect(plan.warnings).toEqual([expect.stringMatching(/00000002.history has a line that is no ancestor/)]);
  await prune(repository, plan, options(clock));
  expect(await segmentsIn(repository)).toContain(nameAt(2, 3));
  expect(await segmentsIn(repository)).not.toContain(nameAt(1, 3));
});
