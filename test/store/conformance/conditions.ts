import { Readable } from "node:stream";
import { expect, it } from "vitest";
import { type ErrorCode, isPgkitError } from "../../../src/lib/errors.ts";
import { readAll } from "../../../src/store/body.ts";
import { inPieces } from "../bodies.ts";
import { all, failsWith } from "../outcome.ts";
import type { Expected, Folder, Given } from "./given.ts";

export function conditions(
  given: Given,
  folder: Folder,
  { capabilities: can, partBytes: part = 100_000, retainMs = 300 }: Expected,
): void {
  it("says of itself what it does", async () => {
    const { clockSkewMs, ...rest } = await given().capabilities();
    expect(rest).toEqual(can);
    expect(Math.abs(clockSkewMs)).toBeLessThan(5_000);
    expect(await all(given().list("probe/"))).toEqual([]);
  });

  it("creates only if absent", async () => {
    const store = given();
    const key = `${folder()}/object`;
    const put = (content: string) => store.put(key, Buffer.from(content), { when: "absent" });
    if (!can.createIfAbsent) {
      await failsWith("store-unsupported", put("first"));
      expect(await store.head(key)).toBeUndefined();
      return;
    }
    await put("first");
    await failsWith("condition-failed", put("second"));
    await failsWith("condition-failed", store.put(key, Readable.from([Buffer.from("third")]), { when: "absent" }));
    expect((await readAll(await store.get(key))).toString()).toBe("first");
    await store.delete([key]);
    await put("fourth");
    await store.delete([key]);
  });

  it("lets one of 16 creators win, and keeps what that one wrote", async () => {
    const store = given();
    const key = `${folder()}/object`;
    const writers = Array.from({ length: 16 }, (_, writer) => `writer ${writer}`);
    const ends = await Promise.allSettled(
      writers.map((writer) => store.put(key, Buffer.from(writer), { when: "absent" })),
    );
    const losses = ends.flatMap((end) => (end.status === "rejected" ? [end.reason as unknown] : []));
    const code: ErrorCode = can.createIfAbsent ? "condition-failed" : "store-unsupported";
    for (const loss of losses) expect(isPgkitError(loss, code), String(loss)).toBe(true);
    expect(losses).toHaveLength(can.createIfAbsent ? 15 : 16);
    if (!can.createIfAbsent) return;
    const winner = writers[ends.findIndex((end) => end.status === "fulfilled")];
    expect((await readAll(await store.get(key))).toString()).toBe(winner);
    await store.delete([key]);
  });

  it("creates a large object only if absent, or refuses without writing", async () => {
    const store = given();
    const key = `${folder()}/object`;
    const large = () => inPieces(Buffer.alloc(5 * part, "x"));
    const error = await store.put(key, large(), { when: "absent" }).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    if (error !== undefined) {
      expect(isPgkitError(error, "store-unsupported"), String(error)).toBe(true);
      expect(await store.head(key)).toBeUndefined();
      return;
    }
    await failsWith("condition-failed", store.put(key, large(), { when: "absent" }));
    expect((await store.head(key))?.bytes).toBe(5 * part);
    await store.delete([key]);
  });

  it("replaces only the version named", async () => {
    const store = given();
    const key = `${folder()}/object`;
    const first = await store.put(key, Buffer.from("first"));
    const put = (content: string, etag: string) => store.put(key, Buffer.from(content), { when: { etag } });
    if (!can.compareAndSet) {
      await failsWith("store-unsupported", put("second", first.etag));
      expect((await readAll(await store.get(key))).toString()).toBe("first");
      await store.delete([key]);
      return;
    }
    const second = await put("second", first.etag);
    await failsWith("condition-failed", put("third", first.etag));
    expect((await readAll(await store.get(key))).toString()).toBe("second");
    await store.delete([key]);
    await failsWith("condition-failed", put("fourth", second.etag));
    expect(await store.head(key)).toBeUndefined();
  });

  if (can.compareAndSet)
    it("lets one of 16 replacers win", async () => {
      const store = given();
      const key = `${folder()}/object`;
      const { etag } = await store.put(key, Buffer.from("start"));
      const writers = Array.from({ length: 16 }, (_, writer) => `writer ${writer}`);
      const ends = await Promise.allSettled(
        writers.map((writer) => store.put(key, Buffer.from(writer), { when: { etag } })),
      );
      for (const end of ends)
        if (end.status === "rejected") expect(isPgkitError(end.reason, "condition-failed")).toBe(true);
      expect(ends.filter((end) => end.status === "fulfilled")).toHaveLength(1);
      const winner = writers[ends.findIndex((end) => end.status === "fulfilled")];
      expect((await readAll(await store.get(key))).toString()).toBe(winner);
      await store.delete([key]);
    });

  for (const bytes of [4, 2 * part + 1]) {
    it(`keeps ${bytes} bytes from removal until their time, or refuses without writing`, async () => {
      const store = given();
      const key = `${folder()}/object`;
      const content = Buffer.alloc(bytes, "k");
      const retainUntil = new Date(Date.now() + retainMs);
      const put = store.put(key, content, { retainUntil });
      if (!can.objectLock) {
        await failsWith("store-unsupported", put);
        expect(await store.head(key)).toBeUndefined();
        return;
      }
      await put;
      const until = (await store.head(key))?.retainedUntil?.getTime() ?? 0;
      expect(Math.abs(until - retainUntil.getTime())).toBeLessThan(1_000);
      await failsWith("store-denied", store.delete([key]));
      expect((await readAll(await store.get(key))).equals(content)).toBe(true);
      await expect.poll(() => store.delete([key]).then(() => "removed", String), { timeout: 30_000 }).toBe("removed");
      expect(await store.head(key)).toBeUndefined();
    });
  }
}
