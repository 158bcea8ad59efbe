import { describe, expect, it } from "vitest";
import { readInventory } from "../../src/repo/inventory.ts";
import { pin } from "../../src/repo/keep.ts";
import { backupFolder, manifestKey } from "../../src/repo/layout.ts";
import { backupLease, withLease } from "../../src/repo/lease.ts";
import type { ObjectReader, StrayUpload } from "../../src/store/store.ts";
import { fakeClock } from "../support/fake-clock.ts";
import { dayMs, kindsOfStore, quietRepository, repositoryIn, storeBackup } from "./support.ts";

const holder = { host: "h", pid: 1, command: "backup" };

describe.each(kindsOfStore)("the inventory of a $kind store", ({ make }) => {
  it("has every backup, pin and leftover, and takes nothing else for one", async () => {
    const repository = await repositoryIn(await make());
    const a = await storeBackup(repository, { id: "a" });
    const b = await storeBackup(repository, { id: "b", instance: "other" });
    await pin(repository, "a", { clock: fakeClock(), until: "forever", by: "alice" });
    await storeBackup(repository, { id: "cut" }, { uncommitted: true });
    await storeBackup(repository, { id: "newer" }, { uncommitted: true });
    await storeBackup(repository, { id: "damaged" });
    await repository.store.put(manifestKey("shared", "damaged"), Buffer.from("{"));
    const inventory = await readInventory(repository, { storeNow: new Date(Date.now() + dayMs + 60_000) });
    expect(inventory.backups).toEqual(expect.arrayContaining([a, b]));
    expect(inventory.backups).toHaveLength(2);
    expect(inventory.unreadable).toMatchObject([{ instance: "shared", id: "damaged" }]);
    expect(inventory.keeps).toMatchObject([{ id: "a" }]);
    expect(inventory.leftovers.map(({ id, objects }) => ({ id, objects }))).toEqual([
      { id: "cut", objects: 2 },
      { id: "newer", objects: 2 },
    ]);
  });

  it("leaves what is younger than a day alone", async () => {
    const repository = await repositoryIn(await make());
    await storeBackup(repository, { id: "under-way" }, { uncommitted: true });
    const inventory = await readInventory(repository, { storeNow: new Date(Date.now() + dayMs - 60_000) });
    expect(inventory.leftovers).toEqual([]);
  });
});

it("judges a folder by its newest object", async () => {
  const { clock, repository, store } = await quietRepository();
  await storeBackup(repository, { id: "slow" }, { uncommitted: true });
  await clock.advance(3 * dayMs);
  await store.put(`${backupFolder("shared", "slow")}one-more`, Buffer.from("x"));
  await clock.advance(dayMs - 1);
  expect((await readInventory(repository, { storeNow: clock.now() })).leftovers).toEqual([]);
  await clock.advance(2);
  expect((await readInventory(repository, { storeNow: clock.now() })).leftovers).toMatchObject([
    { id: "slow", objects: 3 },
  ]);
});

it("leaves the files of an instance alone that a backup is being made of", async () => {
  const { clock, repository } = await quietRepository();
  await storeBackup(repository, { id: "large" }, { uncommitted: true });
  await storeBackup(repository, { id: "given-up", instance: "other" }, { uncommitted: true });
  await clock.advance(2 * dayMs);
  const options = { clock, holder, ttlMs: 120_000, report: () => undefined };
  const during = await withLease(repository, backupLease("shared"), options, async () => {
    return await readInventory(repository, { storeNow: clock.now() });
  });
  expect(during.leftovers).toMatchObject([{ id: "given-up" }]);
  const after = await readInventory(repository, { storeNow: clock.now() });
  expect(after.leftovers).toMatchObject([{ id: "given-up" }, { id: "large" }]);
});

it("never takes a backup for a leftover that is committed and given up its lease while the inventory is read", async () => {
  for (let call = 1; ; call += 1) {
    const { clock, repository, store } = await quietRepository();
    const manifest = await storeBackup(repository, { id: "large" }, { uncommitted: true });
    await clock.advance(2 * dayMs);
    let calls = 0;
    const done = Promise.withResolvers<void>();
    const options = { clock, holder, ttlMs: 120_000, report: () => undefined };
    const started = Promise.withResolvers<void>();
    const backup = withLease(repository, backupLease("shared"), options, async () => {
      started.resolve();
      await done.promise;
      await storeBackup(repository, { id: "large" });
    });
    await started.promise;
    const before = async () => {
      calls += 1;
      if (calls !== call) return;
      done.resolve();
      await backup;
    };
    const interleaved = { ...repository, store: calling(store, before) };
    const { leftovers, backups } = await readInventory(interleaved, { storeNow: clock.now() });
    expect(leftovers).toEqual([]);
    expect(backups.length === 0 || backups[0]?.id === manifest.id).toBe(true);
    done.resolve();
    await backup;
    if (calls < call) break;
  }
});

describe("unfinished uploads", () => {
  async function uploadsOf(all: StrayUpload[], underWay: string[]) {
    const { clock, repository } = await quietRepository();
    await clock.advance(100 * dayMs);
    const uploads = {
      list: async function* () {
        yield* all.map(({ key, startedAt }) => ({
          key,
          startedAt: new Date(clock.now().getTime() + startedAt.getTime()),
        }));
      },
      abort: async () => 0,
    };
    const stray = { ...repository, store: { ...repository.store, uploads } };
    const storeNow = clock.now();
    const options = { clock, holder, ttlMs: 120_000, report: () => undefined };
    const read = async () => (await readInventory(stray, { storeNow })).uploads;
    const locked = underWay.reduce(
      (work, instance) => async () => await withLease(repository, backupLease(instance), options, work),
      read,
    );
    const found = await locked();
    return { count: found?.count, agoMs: found && storeNow.getTime() - found.before.getTime() };
  }
  const ago = (days: number) => new Date(-days * dayMs);

  it("are given up after a day", async () => {
    const all = [
      { key: "files/shared/a/x", startedAt: ago(0.9) },
      { key: "files/shared/b/x", startedAt: ago(1.1) },
      { key: "elsewhere", startedAt: ago(9) },
    ];
    expect(await uploadsOf(all, [])).toEqual({ count: 2, agoMs: dayMs });
  });

  it("are left alone from the beginning of a backup that is under way", async () => {
    const all = [
      { key: "files/shared/a/x", startedAt: ago(3) },
      { key: "files/shared/b/x", startedAt: ago(2) },
      { key: "files/other/c/x", startedAt: ago(5) },
    ];
    expect(await uploadsOf(all, ["shared"])).toEqual({ count: 1, agoMs: 3 * dayMs });
    expect(await uploadsOf([{ key: "temp.1", startedAt: ago(5) }], ["shared"])).toEqual({ count: 0, agoMs: 5 * dayMs });
  });
});

/** `store`, doing something before each call. */
function calling(store: ObjectReader, before: () => Promise<void>): ObjectReader {
  return {
    where: store.where,
    get: async (...given) => {
      await before();
      return await store.get(...given);
    },
    head: async (...given) => {
      await before();
      return await store.head(...given);
    },
    async *list(...given) {
      await before();
      yield* store.list(...given);
    },
  };
}
