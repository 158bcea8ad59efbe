import { describe, expect, it } from "vitest";
import { systemClock } from "../../src/lib/time.ts";
import { describeKeep, isPinned, pin, readKeep, readKeeps, release } from "../../src/repo/keep.ts";
import { manifestKey } from "../../src/repo/layout.ts";
import { keysOf, kindsOfStore, quietRepository, repositoryIn, storeBackup } from "./support.ts";

describe.each(kindsOfStore)("pins in a $kind store", ({ make }) => {
  it("are read back as they were made, and taken off again", async () => {
    const repository = await repositoryIn(await make());
    const manifests = [
      await storeBackup(repository, { id: "a" }),
      await storeBackup(repository, { id: "b", instance: "other" }),
    ];
    const until = new Date(Date.now() + 60_000);
    await pin(repository, "a", { clock: systemClock, until, by: "alice", reason: "before the upgrade" });
    await pin(repository, "b", { clock: systemClock, until: "forever", by: "bob" });
    const [b, a, ...more] = await readKeeps(repository);
    expect(more).toEqual([]);
    expect(a).toMatchObject({ instance: "shared", id: "a", record: { by: "alice", reason: "before the upgrade" } });
    expect(b).toMatchObject({ instance: "other", id: "b", record: { forever: true, by: "bob" } });
    expect(await release(repository, "a")).toEqual({ backup: manifests[0], released: a });
    expect(await release(repository, "a")).toMatchObject({ released: undefined });
    expect(await readKeeps(repository)).toEqual([b]);
  });
});

it("hold until their time, and not a moment longer", async () => {
  const { clock, repository } = await quietRepository();
  await storeBackup(repository, { id: "a" });
  await pin(repository, "a", { clock, until: new Date("2026-11-21T03:00:00Z"), by: "alice" });
  const keep = await readKeep(repository, { instance: "shared", id: "a" });
  if (keep === undefined) throw new Error("no pin");
  expect(describeKeep(keep)).toBe("pinned until 2026-11-21T03:00:00Z by alice");
  expect(isPinned(keep, new Date("2026-11-21T02:59:59Z"))).toBe(true);
  expect(isPinned(keep, new Date("2026-11-21T03:00:00Z"))).toBe(false);
});

it("are replaced by a later pin of the same backup", async () => {
  const { clock, repository } = await quietRepository();
  await storeBackup(repository, { id: "a" });
  await pin(repository, "a", { clock, until: new Date("2026-11-21T03:00:00Z"), by: "alice" });
  await pin(repository, "a", { clock, until: "forever", by: "bob" });
  expect((await readKeeps(repository)).map(describeKeep)).toEqual(["pinned for ever by bob"]);
});

it("are refused for a backup that is not there, and for a time that is past", async () => {
  const { clock, repository, store } = await quietRepository();
  await storeBackup(repository, { id: "a" });
  await expect(pin(repository, "b", { clock, until: "forever", by: "x" })).rejects.toMatchObject({
    code: "backup-missing",
  });
  await expect(release(repository, "b")).rejects.toMatchObject({ code: "backup-missing" });
  await expect(pin(repository, "a", { clock, until: clock.now(), by: "x" })).rejects.toMatchObject({ code: "usage" });
  expect(await keysOf(store, "keeps/")).toEqual([]);
});

it("fail, and leave nothing, when the backup is pruned at the same moment", async () => {
  const { clock, repository, store } = await quietRepository();
  await storeBackup(repository, { id: "a" });
  const racing = {
    ...repository,
    store: {
      ...store,
      put: async (...given: Parameters<typeof store.put>) => {
        const stored = await store.put(...given);
        await store.delete([manifestKey("shared", "a")]);
        return stored;
      },
    },
  };
  await expect(pin(racing, "a", { clock, until: "forever", by: "x" })).rejects.toMatchObject({
    code: "backup-missing",
  });
  expect(await keysOf(store, "keeps/")).toEqual([]);
});

it.each(["{", '{"by":"x","at":"2026-11-21T02:00:00Z"}', '{"until":"someday","by":"x","at":"2026-11-21T02:00:00Z"}'])(
  "count for ever when they cannot be read: %s",
  async (text) => {
    const { clock, repository, store } = await quietRepository();
    await storeBackup(repository, { id: "a" });
    await store.put("keeps/shared/a.json", Buffer.from(text));
    const [keep] = await readKeeps(repository);
    if (keep === undefined) throw new Error("no pin");
    expect(keep).toMatchObject({ problem: { code: "manifest-corrupt" } });
    expect(isPinned(keep, clock.now())).toBe(true);
  },
);
