import { Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import type { Clock } from "../../src/lib/time.ts";
import { readAll } from "../../src/store/body.ts";
import { countingStore } from "../../src/store/counting.ts";
import { faultyStore } from "../../src/store/faulty.ts";
import { fileStore } from "../../src/store/file.ts";
import { memoryStore } from "../../src/store/memory.ts";
import { prefixStore } from "../../src/store/prefix.ts";
import { readOnlyStore } from "../../src/store/read-only.ts";
import { throttleStore } from "../../src/store/throttle.ts";
import { all, failsWith } from "./outcome.ts";

describe("a read-only store", () => {
  it("reads, and throws at every write before it reaches anybody", async () => {
    const inner = faultyStore(memoryStore(), []);
    await inner.put("a", Buffer.from("1"));
    const { uploads } = fileStore({ path: "/nowhere" });
    const store = readOnlyStore({ ...inner, uploads });
    expect((await readAll(await store.get("a"))).toString()).toBe("1");
    expect((await store.head("a"))?.bytes).toBe(1);
    expect(await all(store.list(""))).toHaveLength(1);
    const body = Readable.from([Buffer.from("2")]);
    await failsWith("bug", store.put("a", body));
    expect(body.destroyed).toBe(true);
    await failsWith("bug", store.delete(["a"]));
    await failsWith("bug", store.capabilities());
    await failsWith("bug", store.uploads?.abort(new Date()) ?? Promise.resolve());
    expect(inner.calls("put")).toBe(1);
    expect(inner.calls("delete")).toBe(0);
    expect(inner.calls("capabilities")).toBe(0);
  });
});

describe("a throttled store", () => {
  /** Time passes only by waiting. */
  function slowClock(): Clock & { nowMs: number } {
    const clock = {
      nowMs: 0,
      now: () => new Date(clock.nowMs),
      monotonicMs: () => clock.nowMs,
      random: () => 0,
      delay: async (ms: number) => {
        clock.nowMs += ms;
      },
    };
    return clock;
  }

  it("takes as long as its rate says, both ways, sent whole or as a stream", async () => {
    const clock = slowClock();
    const store = throttleStore(memoryStore(), { bytesPerSecond: 1_000_000, clock });
    const content = Buffer.alloc(3_000_000);
    const seconds = async (work: () => Promise<unknown>) => {
      const before = clock.nowMs;
      await work();
      return (clock.nowMs - before) / 1000;
    };
    const pieces = () => Readable.from(Array.from({ length: 300 }, () => Buffer.alloc(10_000)));
    expect(await seconds(() => store.put("a", content))).toBeCloseTo(3, 1);
    expect(await seconds(() => store.put("a", pieces()))).toBeCloseTo(3, 1);
    expect(await seconds(async () => readAll(await store.get("a")))).toBeCloseTo(3, 1);
  });

  it("lets go of a waiting transfer when the signal comes", async () => {
    const store = throttleStore(memoryStore(), { bytesPerSecond: 1 });
    const stop = new AbortController();
    const whole = failsWith("cancelled", store.put("a", Buffer.alloc(1_000_000), { signal: stop.signal }));
    const body = new Readable({ read: () => undefined });
    const stalled = failsWith("cancelled", store.put("b", body, { signal: stop.signal }));
    stop.abort();
    await whole;
    await stalled;
    expect(body.destroyed).toBe(true);
  });
});

describe("a faulty store", () => {
  it("fails the call planned, counted over all methods or one, and does nothing then", async () => {
    const inner = memoryStore();
    const store = faultyStore(inner, [
      { call: 2, does: "fail" },
      { call: 2, method: "put", does: "fail" },
    ]);
    await store.put("a", Buffer.from("1"));
    await failsWith("store-failed", store.head("a"));
    await failsWith("store-failed", store.put("b", Buffer.from("1")));
    expect(await inner.head("b")).toBeUndefined();
    expect([store.calls(), store.calls("put"), store.calls("head"), store.calls("list")]).toEqual([3, 2, 1, 0]);
  });

  it("cuts what is sent, and stores nothing of it", async () => {
    const inner = memoryStore();
    const store = faultyStore(inner, [{ call: 1, does: { cutAfter: 100 } }]);
    await failsWith("store-failed", store.put("a", Buffer.alloc(200)));
    expect(await inner.head("a")).toBeUndefined();
  });

  it("cuts what is read at the byte planned, and a list at the entry planned", async () => {
    const inner = memoryStore();
    for (const key of ["a", "b", "c"]) await inner.put(key, Buffer.alloc(200));
    const store = faultyStore(inner, [
      { call: 1, method: "get", does: { cutAfter: 100 } },
      { call: 1, method: "list", does: { cutAfter: 2 } },
    ]);
    let read = 0;
    const reading = (async () => {
      for await (const chunk of await store.get("a")) read += chunk.length;
    })();
    await failsWith("store-failed", reading);
    expect(read).toBe(100);
    await failsWith("store-failed", all(store.list("")));
  });

  it("does the work and loses the answer", async () => {
    const inner = memoryStore();
    const store = faultyStore(inner, [{ call: 1, times: 2, does: "lose-reply" }]);
    await failsWith("store-failed", store.put("a", Buffer.from("1")));
    expect((await inner.head("a"))?.bytes).toBe(1);
    await failsWith("store-failed", store.delete(["a"]));
    expect(await inner.head("a")).toBeUndefined();
  });

  it("hangs until the signal", async () => {
    const store = faultyStore(memoryStore(), [{ call: 1, times: 2, does: "hang" }]);
    const stop = new AbortController();
    const ends = [
      failsWith("cancelled", store.put("a", Buffer.from("1"), { signal: stop.signal })),
      failsWith("cancelled", all(store.list("", { signal: stop.signal }))),
    ];
    await new Promise(setImmediate);
    stop.abort();
    await Promise.all(ends);
  });
});

describe("a counting store", () => {
  it("counts calls by kind, and the bytes that were stored and read", async () => {
    const { store, counts } = countingStore(memoryStore());
    await store.put("a", Buffer.alloc(200_000));
    await readAll(await store.get("a"));
    await readAll(await store.get("a", { range: { first: 0, last: 9 } }));
    await all(store.list(""));
    await store.head("a");
    await store.delete(["a"]);
    expect(counts).toEqual({
      get: 2,
      head: 1,
      list: 1,
      put: 1,
      delete: 1,
      capabilities: 0,
      readBytes: 200_010,
      storedBytes: 200_000,
    });
  });
});

describe("a prefixed store", () => {
  it("sees and touches nothing beside its folder, and names it", async () => {
    const inner = memoryStore();
    const store = prefixStore(inner, "in");
    for (const key of ["in/a", "in-between", "inside", "other"]) await inner.put(key, Buffer.from("x"));
    expect((await all(store.list(""))).map((found) => found.key)).toEqual(["a"]);
    await store.delete(["a", "other"]);
    expect(await all(inner.list(""))).toHaveLength(3);
    await failsWith("bug", store.get("../other"));
    expect(store.where).toBe("memory:/in");
  });
});
