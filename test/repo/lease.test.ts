import { utimes } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { type Clock, systemClock } from "../../src/lib/time.ts";
import { leaseTermKey } from "../../src/repo/layout.ts";
import { heldLeases, type LeaseOptions, withLease } from "../../src/repo/lease.ts";
import { faultyStore } from "../../src/store/faulty.ts";
import { memoryStore } from "../../src/store/memory.ts";
import type { ObjectStore } from "../../src/store/store.ts";
import { fakeClock } from "../support/fake-clock.ts";
import { keysOf, kindsOfStore, quietRepository, reports, repositoryIn } from "./support.ts";

const ttlMs = 60_000;
/** What a taker waits after the last sign of life, and where a holder stops. */
const takeableMs = ttlMs + ttlMs / 6;
const safeMs = ttlMs - ttlMs / 6;

function as(command: string, clock: Clock, more: Partial<LeaseOptions> = {}): LeaseOptions {
  return { clock, holder: { host: `host-of-${command}`, pid: 7, command }, ttlMs, report: () => undefined, ...more };
}

/** A run that lasts until it is told to end, or its signal is aborted. */
function longRun() {
  const inside = Promise.withResolvers<void>();
  const told = Promise.withResolvers<string>();
  const run = async (signal: AbortSignal) => {
    inside.resolve();
    signal.addEventListener("abort", () => told.reject(signal.reason));
    return await told.promise;
  };
  return { run, started: inside.promise, end: told.resolve };
}

describe.each(kindsOfStore)("a lease in a $kind store", ({ make }) => {
  it("keeps a second run out and names the one that holds it", async () => {
    const repository = await repositoryIn(await make());
    const first = longRun();
    const done = withLease(repository, "prune", as("first", systemClock), first.run);
    await first.started;
    await expect(withLease(repository, "prune", as("second", systemClock), async () => "in")).rejects.toMatchObject({
      code: "locked",
      message: expect.stringMatching(/first on host-of-first, process 7, since 2\d+-.*Z, until 2\d+-.*Z/),
      hint: expect.stringContaining("ends by itself at"),
    });
    await expect(withLease(repository, "other", as("second", systemClock), async () => "in")).resolves.toBe("in");
    first.end("done");
    await expect(done).resolves.toBe("done");
  });

  it("is free at once after a run that ended, also by failing", async () => {
    const repository = await repositoryIn(await make());
    const failing = withLease(repository, "prune", as("first", systemClock), async () => {
      throw new Error("disk on fire");
    });
    await expect(failing).rejects.toThrow("disk on fire");
    for (const command of ["second", "third"]) {
      await expect(withLease(repository, "prune", as(command, systemClock), async () => command)).resolves.toBe(
        command,
      );
    }
    expect(await keysOf(repository.store, "leases/")).toHaveLength(1);
  });

  it("lets exactly one of many in that come at once", async () => {
    const repository = await repositoryIn(await make());
    const runs = Array.from({ length: 8 }, () => longRun());
    const results = runs.map(({ run }, nth) => withLease(repository, "prune", as(`run ${nth}`, systemClock), run));
    const settled = results.map(async (result) => await result.then(() => "in").catch(({ code }) => code));
    const entered = await Promise.race(runs.map(async ({ started }, nth) => await started.then(() => nth)));
    const others = await Promise.all(settled.filter((_, nth) => nth !== entered));
    expect(new Set(others)).toEqual(new Set(["locked"]));
    runs[entered]?.end("done");
    expect(await settled[entered]).toBe("in");
  });
});

describe("a holder that was killed", () => {
  /** Its clock never moves, so it neither renews nor gives back. */
  async function killed() {
    const quiet = await quietRepository();
    const victim = longRun();
    withLease(quiet.repository, "prune", as("victim", fakeClock()), victim.run).catch(() => undefined);
    await victim.started;
    return quiet;
  }

  it("keeps others out until the lease has expired, and no longer", async () => {
    const { clock, repository } = await killed();
    const attempt = async () => await withLease(repository, "prune", as("next", clock), async () => "in");
    await clock.advance(takeableMs - 1);
    await expect(attempt()).rejects.toMatchObject({ code: "locked" });
    await clock.advance(1);
    await expect(attempt()).resolves.toBe("in");
  });

  it.each(["1999-01-01T00:00:00Z", "2071-01-01T00:00:00Z"])(
    "is judged by the store's clock when ours says %s",
    async (wrong) => {
      const { clock, repository } = await killed();
      const attempt = async () => await withLease(repository, "prune", as("next", fakeClock(wrong)), async () => "in");
      await expect(attempt()).rejects.toMatchObject({ code: "locked" });
      await clock.advance(takeableMs);
      await expect(attempt()).resolves.toBe("in");
    },
  );

  it("is followed by one who waits for it", async () => {
    const { clock, repository } = await killed();
    const { report, said } = reports();
    const next = withLease(repository, "prune", as("next", clock, { waitMs: 10 * ttlMs, report }), async () => "in");
    await clock.advance(takeableMs + ttlMs / 12);
    await expect(next).resolves.toBe("in");
    expect(said()).toContain("waiting for victim on host-of-victim");
  });

  it("is judged by the file system's clock in a folder", async () => {
    const file = kindsOfStore[1];
    const repository = await repositoryIn(await file.make());
    const victim = longRun();
    withLease(repository, "prune", as("victim", fakeClock()), victim.run).catch(() => undefined);
    await victim.started;
    const attempt = async () => await withLease(repository, "prune", as("next", systemClock), async () => "in");
    await expect(attempt()).rejects.toMatchObject({ code: "locked" });
    const old = Date.now() / 1000 - takeableMs / 1000 - 1;
    await utimes(`${fileURLToPath(repository.where)}/${leaseTermKey("prune", 1)}`, old, old);
    await expect(attempt()).resolves.toBe("in");
  });
});

describe("a holder at work", () => {
  it("keeps the lease for as long as it works", async () => {
    const { clock, repository, store } = await quietRepository();
    const first = longRun();
    const done = withLease(repository, "prune", as("first", clock), first.run);
    await first.started;
    for (let minutes = 0; minutes < 30; minutes += 1) {
      await clock.advance(60_000);
      expect(await heldLeases(repository, clock.now())).toEqual(new Set(["prune"]));
      await expect(withLease(repository, "prune", as("next", clock), async () => "in")).rejects.toMatchObject({
        code: "locked",
      });
    }
    expect((await keysOf(store, "leases/")).length).toBeLessThan(3);
    first.end("done");
    await expect(done).resolves.toBe("done");
    expect(await heldLeases(repository, clock.now())).toEqual(new Set());
  });

  it("survives a store that is away for most of the lease", async () => {
    const { clock, store } = await quietRepository();
    const faulty = faultyStore(store, [{ method: "put", call: 2, times: 4, does: "fail" }]);
    const first = longRun();
    const done = withLease(await repositoryIn(faulty), "prune", as("first", clock), first.run);
    await first.started;
    await clock.advance(10 * ttlMs);
    first.end("done");
    await expect(done).resolves.toBe("done");
  });

  it("is stopped before another can come in, when the store stays away", async () => {
    const { clock, store, repository } = await quietRepository();
    const faulty = faultyStore(store, [{ method: "put", call: 2, times: 1000, does: "fail" }]);
    const first = longRun();
    const done = withLease(await repositoryIn(faulty), "prune", as("first", clock), first.run);
    const outcome = done.catch((error: unknown) => error);
    await first.started;
    await clock.advance(safeMs);
    await expect(outcome).resolves.toMatchObject({
      code: "store-unreachable",
      message: expect.stringContaining("as planned"),
    });
    await expect(withLease(repository, "prune", as("next", clock), async () => "in")).rejects.toMatchObject({
      code: "locked",
    });
  });

  it("is stopped in time when the store says nothing at all", async () => {
    const { clock, store } = await quietRepository();
    const faulty = faultyStore(store, [{ method: "put", call: 2, times: 1000, does: "hang" }]);
    const first = longRun();
    const done = withLease(await repositoryIn(faulty), "prune", as("first", clock), first.run);
    const outcome = done.catch((error: unknown) => error);
    await first.started;
    await clock.advance(safeMs);
    await expect(outcome).resolves.toMatchObject({ code: "store-unreachable" });
  });

  it("is stopped when it stood still and another has come in", async () => {
    const { clock, repository } = await quietRepository();
    const suspended = fakeClock();
    const first = longRun();
    const done = withLease(repository, "prune", as("first", suspended), first.run);
    const outcome = done.catch((error: unknown) => error);
    await first.started;
    await clock.advance(takeableMs);
    const second = longRun();
    const next = withLease(repository, "prune", as("second", clock), second.run);
    await second.started;
    await suspended.advance(ttlMs / 3);
    await expect(outcome).resolves.toMatchObject({
      code: "locked",
      message: expect.stringContaining("second on host-of-second"),
    });
    second.end("done");
    await expect(next).resolves.toBe("done");
  });

  it("knows its own renewal when the reply was lost, and does not count it longer than it lasts", async () => {
    const { clock, store, repository } = await quietRepository();
    // The first renewal is stored and its reply lost; the second try finds it; then nothing reaches the store.
    const faulty = faultyStore(store, [
      { method: "put", call: 2, does: "lose-reply" },
      { method: "put", call: 4, times: 1000, does: "fail" },
    ]);
    const first = longRun();
    const seen: unknown[] = [];
    withLease(await repositoryIn(faulty), "prune", as("first", clock), first.run).catch((error) => seen.push(error));
    await first.started;
    await clock.advance(ttlMs / 3 + safeMs - 1);
    expect(seen).toEqual([]);
    await clock.advance(1);
    await clock.advance(0);
    expect(seen).toMatchObject([{ code: "store-unreachable" }]);
    await expect(withLease(repository, "prune", as("next", clock), async () => "in")).rejects.toMatchObject({
      code: "locked",
    });
  });

  it("ends well although the lease cannot be given back, and says so", async () => {
    const { clock, store } = await quietRepository();
    const faulty = faultyStore(store, [{ method: "put", call: 2, times: 1000, does: "fail" }]);
    const { report, said } = reports();
    const result = withLease(await repositoryIn(faulty), "prune", as("first", clock, { report }), async () => "done");
    await expect(result).resolves.toBe("done");
    expect(said()).toContain("could not be given back");
  });

  it("stops when the caller's signal is aborted, and gives the lease back", async () => {
    const { clock, repository } = await quietRepository();
    const stop = new AbortController();
    const first = longRun();
    const done = withLease(repository, "prune", as("first", clock, { signal: stop.signal }), first.run);
    await first.started;
    stop.abort(new Error("ctrl-c"));
    await expect(done).rejects.toThrow("ctrl-c");
    await expect(withLease(repository, "prune", as("next", clock), async () => "in")).resolves.toBe("in");
  });
});

describe("a store that ignores conditions", () => {
  it("is refused where two runs must be kept apart", async () => {
    const { clock, repository } = await quietRepository({ lacks: ["createIfAbsent"] });
    await expect(withLease(repository, "prune", as("first", clock), async () => "in")).rejects.toMatchObject({
      code: "store-unsupported",
    });
  });

  it("is worked on with a warning where the caller says so", async () => {
    const { clock, repository } = await quietRepository({ lacks: ["createIfAbsent", "compareAndSet"] });
    const { report, said } = reports();
    const options = as("first", clock, { withoutConditions: "proceed", report });
    await expect(withLease(repository, "prune", options, async () => "in")).resolves.toBe("in");
    expect(said()).toContain("cannot keep two runs apart");
  });

  it("needs no compare-and-set, which older Ceph lacks", async () => {
    const { clock, repository } = await quietRepository({ lacks: ["compareAndSet"] });
    await expect(withLease(repository, "prune", as("first", clock), async () => "in")).resolves.toBe("in");
  });
});

it("refuses a lease shorter than stores can measure", async () => {
  const { clock, repository } = await quietRepository();
  const options = as("first", clock, { ttlMs: 5000 });
  await expect(withLease(repository, "prune", options, async () => "in")).rejects.toMatchObject({ code: "config" });
});

it("never lets two in, however slow the store and whoever stands still", async () => {
  for (let seed = 1; seed <= 25; seed += 1) expect(await mostAtOnce(seed)).toBe(1);
});

/** Three runs take the lease again and again through stores of random latency, often longer than the lease itself. */
async function mostAtOnce(seed: number): Promise<number> {
  const clock = fakeClock();
  for (let skip = 0; skip < seed * 13; skip += 1) clock.random();
  const store = memoryStore({ clock });
  const repository = await repositoryIn(store);
  let inside = 0;
  let most = 0;
  const once = async (nth: number) => {
    const slow = { ...repository, store: slowStore(store, clock) };
    await withLease(slow, "prune", as(`run ${nth}`, clock, { waitMs: 20 * ttlMs }), async (signal) => {
      inside += 1;
      most = Math.max(most, inside);
      await clock.delay(clock.random() * 4 * ttlMs, signal).catch(() => undefined);
      inside -= 1;
    }).catch(({ code }) => expect(["locked", "store-unreachable"]).toContain(code));
  };
  const all = Promise.all(
    [1, 2, 3].map(async (nth) => {
      for (let times = 0; times < 4; times += 1) await once(nth);
    }),
  );
  let ended = false;
  all.then(
    () => {
      ended = true;
    },
    () => {
      ended = true;
    },
  );
  while (!ended) await clock.advance(5 * ttlMs);
  await all;
  return most;
}

/** Waits before and after each call: mostly briefly, at times for longer than a lease lasts. */
function slowStore(store: ObjectStore, clock: Clock): ObjectStore {
  const lag = async () => await clock.delay(clock.random() < 0.15 ? clock.random() * 2 * ttlMs : clock.random() * 1000);
  const slowed = async <T>(work: () => Promise<T>): Promise<T> => {
    await lag();
    const result = await work();
    await lag();
    return result;
  };
  return {
    ...store,
    put: (key, body, options) => slowed(() => store.put(key, body, options)),
    head: (key, options) => slowed(() => store.head(key, options)),
    get: (key, options) => slowed(() => store.get(key, options)),
    delete: (keys, options) => slowed(() => store.delete(keys, options)),
    async *list(prefix, options) {
      await lag();
      const all = [];
      for await (const info of store.list(prefix, options)) all.push(info);
      await lag();
      yield* all;
    },
  };
}
