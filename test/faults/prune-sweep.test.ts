import { expect, test } from "vitest";
import { pruneCommand } from "../../src/cli/commands/prune.ts";
import { listBackups } from "../../src/repo/backups.ts";
import { type MemoryStoreOptions, memoryStore } from "../../src/store/memory.ts";
import type { ObjectStore } from "../../src/store/store.ts";
import { dayMs, keysOf, repositoryIn, storeBackup } from "../repo/support.ts";
import { faultAt, type KindOfFault, kindsOfFault, movableClock, runClean, runWithFault } from "./stores.ts";
import { configured, errorOf } from "./support.ts";

const instances = { shared: { url: "postgresql://u@h/d", retention: { logical: { keepLast: 1 } } } };
const args = ["--yes"];

/** Three backups of one database, of which the last is to stay, and the files of one that was never finished. */
async function filled(options: MemoryStoreOptions): Promise<ObjectStore> {
  const store = memoryStore(options);
  const repository = await repositoryIn(store);
  for (const day of ["2026-11-01", "2026-11-02", "2026-11-03"]) {
    await storeBackup(repository, { id: day, startedAt: `${day}T02:00:00Z` });
  }
  await storeBackup(repository, { id: "cut" }, { uncommitted: true });
  return store;
}

/** What is listed has all its files. */
async function listedIn(store: ObjectStore): Promise<string[]> {
  const repository = await repositoryIn(store);
  const { backups, unreadable } = await listBackups(repository);
  expect(unreadable).toEqual([]);
  const keys = await keysOf(store, "files/");
  for (const { files } of backups) {
    for (const { volumes } of files) for (const { key } of volumes) expect(keys).toContain(key);
  }
  return backups.map(({ id }) => id);
}

test.each(kindsOfFault)(
  "prune, whatever call of its store meets this fault: %s",
  async (kind) => {
    const untouched = await attempt(undefined);
    expect(untouched).toMatchObject({ status: 0 });
    expect(untouched.calls).toBeGreaterThan(40);
    const calls = Array.from({ length: untouched.calls }, (_, index) => index + 1);
    const outcomes = await Promise.all(calls.map((call) => attempt({ kind, call })));
    expect(outcomes.filter(({ status }) => status !== 0).length).toBeGreaterThan(5);
  },
  120_000,
);

async function attempt(fault: { kind: KindOfFault; call: number } | undefined) {
  const clock = movableClock();
  const store = await filled({ clock });
  clock.ahead(2 * dayMs);
  const options = { files: configured({ repository: "/in/memory", instances }), clock };
  const planned = fault && faultAt(fault.kind, fault.call);
  const { ran, calls } = await runWithFault(pruneCommand, args, options, { store, retries: false, fault: planned });
  const said = `${JSON.stringify(fault)} ${ran.status} ${ran.stderr}`;
  if (ran.status !== 0) {
    const wanted = fault?.kind === "hang" ? [130, "cancelled"] : [13, "store-failed"];
    expect([ran.status, errorOf(ran).error.code], said).toEqual(wanted);
  }
  expect(await listedIn(store), said).toContain("2026-11-03");
  // Done means done: all that was to go is gone.
  if (ran.status === 0) expect(await keysOf(store, "files/"), said).toHaveLength(2);
  clock.ahead(2 * dayMs);
  await runClean(pruneCommand, args, options, store);
  expect(await listedIn(store), said).toEqual(["2026-11-03"]);
  expect(await keysOf(store, "files/"), said).toHaveLength(2);
  return { status: ran.status, calls };
}

test.each(["fail", "gone"] as const)(
  "of two repositories the one that works is pruned, and the other named: %s",
  async (kind) => {
    const clock = movableClock();
    for (let call = 1; ; call += 1) {
      const stores = { good: await filled({ clock }), bad: await filled({ clock }) };
      clock.ahead(2 * dayMs);
      const repositories = Object.keys(stores).map((name) => ({ name, url: `/in/memory/${name}` }));
      const options = { files: configured({ repositories, instances }), clock };
      const { ran, calls } = await runWithFault(pruneCommand, args, options, {
        ...{ store: stores.bad, retries: false, fault: faultAt(kind, call) },
        others: ({ name }) => (name === "good" ? stores.good : undefined),
      });
      const said = `${call} ${ran.status} ${ran.stderr}`;
      expect(await listedIn(stores.good), said).toEqual(["2026-11-03"]);
      expect(await listedIn(stores.bad), said).toContain("2026-11-03");
      if (ran.status !== 0) {
        const { error } = errorOf(ran);
        expect([ran.status, error.code], said).toEqual([3, "partly-done"]);
        expect(error.message).toMatch(/bad: .*as planned/);
        expect(error.message).not.toContain("good:");
      }
      if (calls < call) break;
    }
  },
  120_000,
);
