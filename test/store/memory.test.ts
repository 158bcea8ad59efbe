import { describe, expect, it } from "vitest";
import { memoryStore } from "../../src/store/memory.ts";
import { conformance } from "./conformance.ts";
import { failsWith } from "./outcome.ts";

const everything = { createIfAbsent: true, compareAndSet: true, checksum: "crc32", objectLock: true } as const;

conformance("memory", async () => ({ store: memoryStore() }), { capabilities: everything });

conformance(
  "memory that keeps no condition, checksum or lock",
  async () => ({ store: memoryStore({ lacks: ["createIfAbsent", "compareAndSet", "checksum", "objectLock"] }) }),
  { capabilities: { createIfAbsent: false, compareAndSet: false, checksum: "none", objectLock: false } },
);

describe("memory", () => {
  it("cannot be used to write over an object under retention", async () => {
    const store = memoryStore();
    await store.put("a", Buffer.from("1"), { retainUntil: new Date("9999-01-01") });
    await failsWith("store-denied", store.put("a", Buffer.from("2")));
    expect((await store.head("a"))?.retainedUntil).toEqual(new Date("9999-01-01"));
  });
});
