import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { PgkitError } from "../../src/lib/errors.ts";
import type { Clock } from "../../src/lib/time.ts";
import { readAll } from "../../src/store/body.ts";
import { type Fault, faultyStore } from "../../src/store/faulty.ts";
import { memoryStore } from "../../src/store/memory.ts";
import { type RetryOptions, retryStore } from "../../src/store/retry.ts";
import { all, failsWith } from "./outcome.ts";

/** A clock whose waits end at once and are noted. */
function noting(random = 0.5): { clock: Clock; waits: number[] } {
  const waits: number[] = [];
  const clock: Clock = {
    now: () => new Date("2026-01-01"),
    monotonicMs: () => 0,
    random: () => random,
    delay: async (ms, signal) => {
      signal?.throwIfAborted();
      waits.push(ms);
    },
  };
  return { clock, waits };
}

function withPlan(plan: Fault[], options: RetryOptions = {}) {
  const { clock, waits } = noting();
  const inner = memoryStore();
  const faulty = faultyStore(inner, plan);
  return { store: retryStore(faulty, { clock, ...options }), inner, faulty, waits };
}

describe("retry", () => {
  it("calls again after failures that pass, waiting longer each time by chance", async () => {
    const { store, faulty, waits } = withPlan([{ call: 1, method: "head", times: 4, does: "fail" }]);
    expect(await store.head("a")).toBeUndefined();
    expect(faulty.calls("head")).toBe(5);
    expect(waits).toEqual([100, 200, 400, 800]);
  });

  it("never waits longer than its bound, and gives up after so many calls with the last error", async () => {
    const error = new PgkitError("store-unreachable", "nobody there");
    const plan: Fault[] = [{ call: 1, method: "head", times: 99, does: "fail", error }];
    const { store, faulty, waits } = withPlan(plan, { attempts: 4, baseMs: 1000, maxMs: 3000 });
    await expect(store.head("a")).rejects.toBe(error);
    expect(faulty.calls("head")).toBe(4);
    expect(waits).toEqual([500, 1000, 1500]);
  });

  for (const code of [
    "store-denied",
    "store-full",
    "condition-failed",
    "object-missing",
    "cancelled",
    "bug",
  ] as const) {
    it(`does not call again after ${code}, which stays`, async () => {
      const error = new PgkitError(code, "for good");
      const { store, faulty } = withPlan([{ call: 1, does: "fail", error }]);
      await expect(store.delete(["a"])).rejects.toBe(error);
      expect(faulty.calls()).toBe(1);
    });
  }

  it("stops waiting when the signal comes", async () => {
    const stop = new AbortController();
    const inner = faultyStore(memoryStore(), [{ call: 1, times: 99, does: "fail" }]);
    const store = retryStore(inner, { baseMs: 3_600_000, maxMs: 3_600_000 });
    const end = failsWith("cancelled", store.head("a", { signal: stop.signal }));
    await expect.poll(() => inner.calls()).toBe(1);
    stop.abort();
    await end;
  });

  it("goes on with a body from the byte reached, also within a range", async () => {
    const content = randomBytes(500_000);
    const cut = (call: number): Fault => ({ call, method: "get", does: { cutAfter: 100_000 } });
    const { store, inner, faulty } = withPlan([cut(1), cut(2), cut(3), { call: 4, method: "get", does: "fail" }]);
    await inner.put("a", content);
    expect((await readAll(await store.get("a"))).equals(content)).toBe(true);
    expect(faulty.calls("get")).toBe(5);
    const again = withPlan([cut(1), cut(2)]);
    await again.inner.put("a", content);
    const part = await readAll(await again.store.get("a", { range: { first: 7, last: 300_000 } }));
    expect(part.equals(content.subarray(7, 300_001))).toBe(true);
  });

  it("goes on with a body whose end was reached but not said", async () => {
    const { store, inner } = withPlan([{ call: 1, method: "get", does: { cutAfter: 5 } }]);
    await inner.put("a", Buffer.from("12345"));
    expect((await readAll(await store.get("a"))).toString()).toBe("12345");
  });

  it("never mixes two versions in one body", async () => {
    const { store, inner } = withPlan([{ call: 1, method: "get", does: { cutAfter: 100_000 } }]);
    await inner.put("a", Buffer.alloc(300_000, "1"));
    const body = await store.get("a");
    await inner.put("a", Buffer.alloc(300_000, "2"));
    await failsWith("condition-failed", readAll(body));
  });

  it("gives up on a body that only drips", async () => {
    const plan: Fault[] = [{ call: 1, method: "get", times: 10_000, does: { cutAfter: 10 } }];
    const { store, inner, faulty } = withPlan(plan, { attempts: 5 });
    await inner.put("a", Buffer.alloc(300_000));
    await failsWith("store-failed", readAll(await store.get("a")));
    expect(faulty.calls("get")).toBe(5);
  });

  it("goes on with a list after the last key", async () => {
    const plan: Fault[] = [1, 2, 3].map((call) => ({ call, method: "list", does: { cutAfter: 2 } }));
    const { store, inner, faulty } = withPlan(plan, { attempts: 2 });
    const keys = ["a", "b", "c", "d", "e", "f", "g"];
    for (const key of keys) await inner.put(key, Buffer.from("x"));
    expect((await all(store.list(""))).map((found) => found.key)).toEqual(keys);
    expect(faulty.calls("list")).toBe(4);
  });

  it("sends bytes again, and a stream only as long as nothing of it was read", async () => {
    const { store, inner } = withPlan([{ call: 1, method: "put", does: { cutAfter: 3 } }]);
    await store.put("a", Buffer.from("123456"));
    expect((await inner.head("a"))?.bytes).toBe(6);
    const early = withPlan([{ call: 1, method: "put", times: 2, does: "fail" }]);
    await early.store.put("a", Readable.from([Buffer.from("123456")]));
    expect((await readAll(await early.inner.get("a"))).toString()).toBe("123456");
    const late = withPlan([{ call: 1, method: "put", does: { cutAfter: 3 } }]);
    const body = Readable.from([Buffer.from("123456")], { objectMode: false });
    await failsWith("store-failed", late.store.put("a", body));
    expect(late.faulty.calls("put")).toBe(1);
    expect(body.destroyed).toBe(true);
    expect(await late.inner.head("a")).toBeUndefined();
  });

  it("knows its own write again when the answer was lost and the condition then fails", async () => {
    const { store } = withPlan([{ call: 1, method: "put", does: "lose-reply" }]);
    const { etag } = await store.put("a", Buffer.from("mine"), { when: "absent" });
    expect(etag).toBe((await store.head("a"))?.etag);
    const theirs = withPlan([{ call: 1, method: "put", does: "fail" }]);
    await theirs.inner.put("a", Buffer.from("them"));
    await failsWith("condition-failed", theirs.store.put("a", Buffer.from("mine"), { when: "absent" }));
    expect((await readAll(await theirs.inner.get("a"))).toString()).toBe("them");
  });

  it("leaves every call but bodies to a client that repeats requests itself", async () => {
    const plan: Fault[] = [
      { call: 1, method: "head", does: "fail" },
      { call: 1, method: "get", does: "fail" },
      { call: 2, method: "get", does: { cutAfter: 2 } },
    ];
    const { store, inner, faulty } = withPlan(plan, { what: "bodies" });
    await inner.put("a", Buffer.from("12345"));
    await failsWith("store-failed", store.head("a"));
    await failsWith("store-failed", store.get("a"));
    expect((await readAll(await store.get("a"))).toString()).toBe("12345");
    expect(faulty.calls("get")).toBe(3);
  });

  it("ends what it reads from when its reader goes, also while nothing comes", async () => {
    let source: Readable | undefined;
    const silent = { ...memoryStore() };
    silent.get = async () => {
      source = new Readable({ read: () => undefined });
      return Object.assign(source, { etag: "e" });
    };
    const body = await retryStore(silent).get("a");
    body.resume();
    await new Promise(setImmediate);
    body.destroy();
    await expect.poll(() => source?.closed).toBe(true);
  });
});
