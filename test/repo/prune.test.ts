import { describe, expect, it } from "vitest";
import { systemClock } from "../../src/lib/time.ts";
import { listBackups } from "../../src/repo/backups.ts";
import { type Inventory, readInventory } from "../../src/repo/inventory.ts";
import { pin } from "../../src/repo/keep.ts";
import { manifestKey } from "../../src/repo/layout.ts";
import { backupLease, withLease } from "../../src/repo/lease.ts";
import type { Manifest } from "../../src/repo/manifest.ts";
import { type PruneOptions, prune } from "../../src/repo/prune.ts";
import type { Repository } from "../../src/repo/repository.ts";
import { type PrunePlan, planPrune } from "../../src/repo/retention.ts";
import { type Fault, faultyStore } from "../../src/store/faulty.ts";
import type { ObjectStore } from "../../src/store/store.ts";
import { dayMs, keysOf, kindsOfStore, quietRepository, reports, repositoryIn, storeBackup } from "./support.ts";

type Clocked = Pick<PruneOptions, "clock">;

function options({ clock }: Clocked, more: Partial<PruneOptions> = {}): PruneOptions {
  const holder = { host: "h", pid: 1, command: "prune" };
  return { clock, holder, ttlMs: 120_000, report: () => undefined, ...more };
}

const keepLastOne = { logical: { keepLast: 1 }, base: { keepLast: 1 } };

function planOf(inventory: Inventory, now: Date): PrunePlan<Manifest> {
  const policies = new Map([["shared", keepLastOne]]);
  return planPrune({ ...inventory, policies, timeZone: "UTC", now });
}

async function planFor(repository: Repository, { clock }: Clocked): Promise<PrunePlan<Manifest>> {
  return planOf(await readInventory(repository, { storeNow: clock.now() }), clock.now());
}

const days = ["2026-11-01", "2026-11-02", "2026-11-03", "2026-11-04"];

/** Four backups of one database, of which a prune keeps the last; one leftover; one pin that has ended. */
async function filled(repository: Repository): Promise<void> {
  for (const day of days) await storeBackup(repository, { id: day, startedAt: `${day}T02:00:00Z` });
  await storeBackup(repository, { id: "cut" }, { uncommitted: true });
  const ended = JSON.stringify({ until: "2026-11-10T00:00:00Z", by: "alice", at: "2026-11-01T00:00:00Z" });
  await repository.store.put("keeps/shared/2026-11-02.json", Buffer.from(ended));
}

/** The promise of the whole repository: what is listed can be restored. */
async function assertListedAreWhole(repository: Repository): Promise<string[]> {
  const { backups, unreadable } = await listBackups(repository);
  expect(unreadable).toEqual([]);
  const keys = new Set(await keysOf(repository.store, "files/"));
  for (const { files } of backups) {
    for (const { volumes } of files) for (const { key } of volumes) expect(keys).toContain(key);
  }
  return backups.map(({ id }) => id);
}

describe.each(kindsOfStore)("prune in a $kind store", ({ make }) => {
  it("removes what the plan removes, with files and pins, and nothing else", async () => {
    const repository = await repositoryIn(await make());
    await filled(repository);
    await pin(repository, "2026-11-03", { clock: systemClock, until: "forever", by: "alice" });
    const later = new Date(Date.now() + 2 * dayMs);
    const plan = planOf(await readInventory(repository, { storeNow: later }), later);
    const result = await prune(repository, plan, options({ clock: systemClock }));
    expect(result.removed.map(({ id }) => id).sort()).toEqual(["2026-11-01", "2026-11-02"]);
    expect(result).toMatchObject({ leftovers: [{ id: "cut" }], skipped: [], refused: [] });
    expect(await assertListedAreWhole(repository)).toEqual(["2026-11-03", "2026-11-04"]);
    const kept = ["2026-11-03", "2026-11-04"];
    expect((await keysOf(repository.store)).filter((key) => !key.startsWith("leases/"))).toEqual([
      ...kept.map((id) => `backups/shared/${id}.json`),
      ...kept.flatMap((id) => [0, 1].map((file) => `files/shared/${id}/file-${file}`)),
      "keeps/shared/2026-11-03.json",
      "pgkit.json",
    ]);
  });

  it("keeps a second run out while it removes", async () => {
    const repository = await repositoryIn(await make());
    await filled(repository);
    const plan = await planFor(repository, { clock: systemClock });
    const seconds: string[] = [];
    const { store } = repository;
    const racing: ObjectStore = {
      ...store,
      delete: async (keys, given) => {
        if (keys.some((key) => key.startsWith("backups/"))) {
          const second = prune(repository, plan, options({ clock: systemClock }));
          seconds.push(await second.then(() => "done").catch(({ code }) => code));
        }
        await store.delete(keys, given);
      },
    };
    await prune({ ...repository, store: racing }, plan, options({ clock: systemClock }));
    expect(seconds).toEqual(["locked", "locked", "locked"]);
    expect(await assertListedAreWhole(repository)).toEqual(["2026-11-04"]);
  });
});

describe("a prune that is killed", () => {
  const kills: { name: string; faults: (call: number) => Fault[] }[] = [
    { name: "before a call", faults: (call) => [{ call, times: 1e9, does: "fail" }] },
    {
      name: "after a call",
      faults: (call) => [
        { call, does: "lose-reply" },
        { call: call + 1, times: 1e9, does: "fail" },
      ],
    },
  ];

  it.each(kills)("$name leaves no backup without its files, and the next one finishes", async ({ faults }) => {
    const untouched = await survivingKill([]);
    expect(untouched.calls).toBeGreaterThan(30);
    for (let call = 1; call <= untouched.calls; call += 1) await survivingKill(faults(call));
  });

  async function survivingKill(faults: Fault[]): Promise<{ calls: number }> {
    const { clock, repository, store } = await quietRepository();
    await filled(repository);
    await clock.advance(2 * dayMs);
    const plan = await planFor(repository, { clock });
    const faulty = faultyStore(store, faults);
    await prune({ ...repository, store: keyByKey(faulty) }, plan, options({ clock })).catch(() => undefined);
    expect(await assertListedAreWhole(repository)).toContain("2026-11-04");
    // Another day: what the killed run held has expired, and what it left behind is old enough.
    await clock.advance(2 * dayMs);
    await prune(repository, await planFor(repository, { clock }), options({ clock }));
    expect(await assertListedAreWhole(repository)).toEqual(["2026-11-04"]);
    expect(await keysOf(store, "files/")).toHaveLength(2);
    expect(await keysOf(store, "keeps/")).toEqual([]);
    const rest = await planFor(repository, { clock });
    expect([...rest.remove, ...rest.leftovers, ...rest.orphanedKeeps]).toEqual([]);
    return { calls: faulty.calls() };
  }
});

/** Takes keys one by one, as a kill in the middle of a removal would leave them. */
function keyByKey(store: ObjectStore): ObjectStore {
  return {
    ...store,
    delete: async (keys, given) => {
      for (const key of keys) await store.delete([key], given);
    },
  };
}

/** `store`, doing something before the nth call. */
function interrupted(store: ObjectStore, nth: number, work: () => Promise<void>): ObjectStore & { calls(): number } {
  let calls = 0;
  const count = async () => {
    calls += 1;
    if (calls === nth) await work();
  };
  const counted =
    <Given extends unknown[], Result>(call: (...given: Given) => Promise<Result>) =>
    async (...given: Given) => {
      await count();
      return await call(...given);
    };
  return {
    where: store.where,
    calls: () => calls,
    get: counted(store.get),
    head: counted(store.head),
    put: counted(store.put),
    delete: counted(store.delete),
    capabilities: counted(store.capabilities),
    async *list(...given) {
      await count();
      yield* store.list(...given);
    },
  };
}

describe("what changes while prune runs", () => {
  it("a pin that was accepted holds, whenever it came", async () => {
    let accepted = 0;
    for (let nth = 1; ; nth += 1) {
      const { clock, repository, store } = await quietRepository();
      await filled(repository);
      const plan = await planFor(repository, { clock });
      const outcome: string[] = [];
      const racing = interrupted(store, nth, async () => {
        const pinned = pin(repository, "2026-11-01", { clock, until: "forever", by: "alice" });
        outcome.push(await pinned.then(() => "pinned").catch(({ code }) => code));
      });
      const result = await prune({ ...repository, store: racing }, plan, options({ clock }));
      const [answer = "late"] = outcome;
      const left = await assertListedAreWhole(repository);
      if (answer === "pinned") {
        accepted += 1;
        expect(left).toEqual(["2026-11-01", "2026-11-04"]);
        expect(result.skipped).toEqual([{ instance: "shared", id: "2026-11-01", reason: "pinned for ever by alice" }]);
      } else {
        expect(["backup-missing", "late"]).toContain(answer);
      }
      if (racing.calls() < nth) break;
    }
    expect(accepted).toBeGreaterThan(5);
  });

  it("a leftover that turns out to be a backup under way stays", async () => {
    const { clock, repository, store } = await quietRepository();
    await filled(repository);
    await clock.advance(2 * dayMs);
    const plan = await planFor(repository, { clock });
    expect(plan.leftovers).toMatchObject([{ id: "cut" }]);
    await storeBackup(repository, { id: "cut", startedAt: "2026-11-01T00:00:00Z" });
    const result = await prune(repository, plan, options({ clock }));
    expect(result).toMatchObject({ leftovers: [], skipped: [{ id: "cut" }] });
    expect(await assertListedAreWhole(repository)).toContain("cut");
    await store.delete([manifestKey("shared", "cut")]);
    const added = await prune(repository, { ...plan, remove: [] }, options({ clock }));
    expect(added.skipped).toEqual([{ instance: "shared", id: "cut", reason: "something was added to it since" }]);
  });

  it("nothing is removed when a backup that was to stay is gone", async () => {
    const { clock, repository, store } = await quietRepository();
    await filled(repository);
    const plan = await planFor(repository, { clock });
    await store.delete([manifestKey("shared", "2026-11-04")]);
    await expect(prune(repository, plan, options({ clock }))).rejects.toMatchObject({ code: "condition-failed" });
    expect(await assertListedAreWhole(repository)).toEqual(["2026-11-01", "2026-11-02", "2026-11-03"]);
  });

  it("an orphaned pin is removed, and left where its backup appears", async () => {
    const { clock, repository } = await quietRepository();
    await filled(repository);
    for (const id of ["gone", "appears"]) {
      const record = { forever: true, by: "alice", at: "2026-11-01T00:00:00Z" };
      await repository.store.put(`keeps/shared/${id}.json`, Buffer.from(JSON.stringify(record)));
    }
    const plan = await planFor(repository, { clock });
    expect(plan.orphanedKeeps.map(({ id }) => id)).toEqual(["appears", "gone"]);
    await storeBackup(repository, { id: "appears" });
    const result = await prune(repository, plan, options({ clock }));
    expect(result.orphanedKeeps.map(({ id }) => id)).toEqual(["gone"]);
    expect(await keysOf(repository.store, "keeps/")).toEqual(["keeps/shared/appears.json"]);
  });
});

describe("object lock", () => {
  const until = new Date("2027-01-01T00:00:00Z");

  it("keeps a backup whole while it lasts", async () => {
    const { clock, repository } = await quietRepository();
    await storeBackup(repository, { id: "locked", startedAt: "2026-11-01T02:00:00Z", retainUntil: until });
    await storeBackup(repository, { id: "free", startedAt: "2026-11-02T02:00:00Z" });
    await storeBackup(repository, { id: "last", startedAt: "2026-11-03T02:00:00Z" });
    const result = await prune(repository, await planFor(repository, { clock }), options({ clock }));
    expect(result.removed.map(({ id }) => id)).toEqual(["free"]);
    expect(result.skipped).toEqual([
      { instance: "shared", id: "locked", reason: "under object lock until 2027-01-01T00:00:00Z" },
    ]);
    expect(await assertListedAreWhole(repository)).toEqual(["locked", "last"]);
    await clock.advance(60 * dayMs);
    await prune(repository, await planFor(repository, { clock }), options({ clock }));
    expect(await assertListedAreWhole(repository)).toEqual(["last"]);
  });

  it("keeps a backup of which one file alone is locked", async () => {
    const { clock, repository, store } = await quietRepository();
    const manifest = await storeBackup(repository, { id: "half", startedAt: "2026-11-01T02:00:00Z" });
    await storeBackup(repository, { id: "last", startedAt: "2026-11-03T02:00:00Z" });
    const key = manifest.files[1]?.volumes[0]?.key ?? "";
    await store.put(key, Buffer.from("x"), { retainUntil: until });
    const result = await prune(repository, await planFor(repository, { clock }), options({ clock }));
    expect(result).toMatchObject({ removed: [], skipped: [{ id: "half" }] });
    expect(await assertListedAreWhole(repository)).toEqual(["half", "last"]);
  });

  it("that shows only when the store refuses is reported, and the rest goes on", async () => {
    const { clock, repository, store } = await quietRepository();
    await storeBackup(repository, { id: "held", startedAt: "2026-11-01T02:00:00Z", retainUntil: until });
    await storeBackup(repository, { id: "free", startedAt: "2026-11-02T02:00:00Z" });
    await storeBackup(repository, { id: "last", startedAt: "2026-11-03T02:00:00Z" });
    const blind: ObjectStore = {
      ...store,
      head: async (...given) => {
        const info = await store.head(...given);
        if (info === undefined) return undefined;
        const { retainedUntil: _, ...rest } = info;
        return rest;
      },
    };
    const result = await prune(
      { ...repository, store: blind },
      await planFor(repository, { clock }),
      options({ clock }),
    );
    expect(result.removed.map(({ id }) => id)).toEqual(["free"]);
    expect(result.refused).toMatchObject([{ id: "held", error: { code: "store-denied" } }]);
    expect(await assertListedAreWhole(repository)).toEqual(["held", "last"]);
  });
});

it("keeps what an incremental backup builds on that was pinned meanwhile", async () => {
  const { clock, repository } = await quietRepository();
  const [full, incremental] = [
    await storeBackup(repository, { id: "full", kind: "base", startedAt: "2026-11-01T02:00:00Z" }),
    await storeBackup(repository, { id: "incr", kind: "base", startedAt: "2026-11-02T02:00:00Z" }),
  ];
  const last = await storeBackup(repository, { id: "last", kind: "base", startedAt: "2026-11-03T02:00:00Z" });
  const child = { ...incremental, parent: "full" };
  const backups: Manifest[] = [full, child, last];
  const inventory = await readInventory(repository, { storeNow: clock.now() });
  const plan = planOf({ ...inventory, backups }, clock.now());
  expect(plan.remove.map(({ id }) => id)).toEqual(["incr", "full"]);
  await pin(repository, "incr", { clock, until: "forever", by: "alice" });
  const result = await prune(repository, plan, options({ clock }));
  expect(result.removed).toEqual([]);
  expect(result.skipped.map(({ id, reason }) => `${id}: ${reason}`)).toEqual([
    "incr: pinned for ever by alice",
    "full: parent of incr, which stays",
  ]);
});

it("does not touch the files of a backup under way", async () => {
  const { clock, repository } = await quietRepository();
  await filled(repository);
  await clock.advance(2 * dayMs);
  await withLease(repository, backupLease("shared"), options({ clock }), async () => {
    await prune(repository, await planFor(repository, { clock }), options({ clock }));
  });
  expect(await keysOf(repository.store, "files/shared/cut/")).toHaveLength(2);
});

it("stops at once when it is cancelled, and the lease is free again", async () => {
  const { clock, repository, store } = await quietRepository();
  await filled(repository);
  const stop = new AbortController();
  const plan = await planFor(repository, { clock });
  const racing = interrupted(store, 12, async () => stop.abort());
  const cancelled = prune({ ...repository, store: racing }, plan, options({ clock }, { signal: stop.signal }));
  await expect(cancelled).rejects.toMatchObject({ code: "cancelled" });
  expect((await assertListedAreWhole(repository)).length).toBeGreaterThan(1);
  const { removed } = await prune(repository, await planFor(repository, { clock }), options({ clock }));
  expect(removed.length).toBeGreaterThan(0);
});

it("is refused where the store ignores conditions, unless told that nobody else writes", async () => {
  const { clock, repository } = await quietRepository({ lacks: ["createIfAbsent"] });
  await filled(repository);
  const plan = await planFor(repository, { clock });
  await expect(prune(repository, plan, options({ clock }))).rejects.toMatchObject({
    code: "store-unsupported",
    hint: expect.stringContaining("--single-writer"),
  });
  expect((await assertListedAreWhole(repository)).length).toBe(4);
  const { report, said } = reports();
  await prune(repository, plan, options({ clock }, { singleWriter: true, report }));
  expect(said()).toContain("cannot keep two runs apart");
  expect(await assertListedAreWhole(repository)).toEqual(["2026-11-04"]);
});
