import { randomBytes } from "node:crypto";
import { expect, it } from "vitest";
import { readAll } from "../../../src/store/body.ts";
import { inPieces } from "../bodies.ts";
import { all, failsWith } from "../outcome.ts";
import type { Folder, Given } from "./given.ts";

export function reading(given: Given, folder: Folder, part: number): void {
  for (const bytes of [0, 1, part - 1, part, part + 1, 2 * part + 7]) {
    it(`gives back ${bytes} bytes as they were, sent whole or as a stream, and tells their number`, async () => {
      const store = given();
      const content = randomBytes(bytes);
      for (const body of [content, inPieces(content)]) {
        const key = `${folder()}/object`;
        const stored = await store.put(key, body);
        const found = await store.head(key);
        expect(stored).toMatchObject({ key, bytes });
        expect(found).toMatchObject({ key, bytes, etag: stored.etag });
        expect((await readAll(await store.get(key))).equals(content)).toBe(true);
        await store.delete([key]);
      }
    });
  }

  it("says that an object is missing where it is, and only by the one code for that", async () => {
    const key = `${folder()}/missing`;
    expect(await given().head(key)).toBeUndefined();
    await failsWith("object-missing", given().get(key));
  });

  it("gives the etag and the time that head and list give, and another etag with other content of the same size", async () => {
    const store = given();
    const key = `${folder()}/object`;
    const first = await store.put(key, Buffer.from("one"));
    const second = await store.put(key, Buffer.from("two"));
    expect(second.etag).not.toBe(first.etag);
    const found = await store.head(key);
    const [listed] = await all(store.list(key));
    expect(found?.etag).toBe(second.etag);
    expect(listed?.etag).toBe(second.etag);
    expect(Math.abs((found?.modifiedAt.getTime() ?? 0) - Date.now())).toBeLessThan(60_000);
    expect((await readAll(await store.get(key))).toString()).toBe("two");
    expect((await store.get(key)).destroy()).toHaveProperty("etag", second.etag);
    await store.delete([key]);
  });

  it("gives the bytes of a range, both ends included, cut at the end, and none past it", async () => {
    const store = given();
    const key = `${folder()}/object`;
    await store.put(key, Buffer.from("0123456789"));
    const range = async (first: number, last: number) =>
      (await readAll(await store.get(key, { range: { first, last } }))).toString();
    expect(await range(0, 0)).toBe("0");
    expect(await range(3, 5)).toBe("345");
    expect(await range(9, 9)).toBe("9");
    expect(await range(8, 1000)).toBe("89");
    expect(await range(4, Number.MAX_SAFE_INTEGER)).toBe("456789");
    expect(await range(10, 20)).toBe("");
    await store.put(key, Buffer.alloc(0));
    expect(await range(0, 99)).toBe("");
    await store.delete([key]);
  });

  it("never gives another version than the one asked for", async () => {
    const store = given();
    const key = `${folder()}/object`;
    const { etag } = await store.put(key, Buffer.from("first version"));
    expect((await readAll(await store.get(key, { etag }))).toString()).toBe("first version");
    await store.put(key, Buffer.from("other version"));
    await failsWith("condition-failed", store.get(key, { etag }));
    await failsWith("condition-failed", store.get(key, { etag, range: { first: 2, last: 5 } }));
    await store.delete([key]);
  });

  it("takes every character of the alphabet of keys", async () => {
    const store = given();
    const key = `${folder()}/a=b+c._-d/AZ09/...x/-.gz`;
    await store.put(key, Buffer.from("x"));
    expect((await all(store.list(key.slice(0, -2)))).map((found) => found.key)).toEqual([key]);
    expect((await readAll(await store.get(key))).toString()).toBe("x");
    await store.delete([key]);
    expect(await store.head(key)).toBeUndefined();
  });

  for (const key of ["", "/a", "a/", "a//b", "../a", "a/./b", "a b", "ä", "a\\b"]) {
    it(`refuses ${JSON.stringify(key)}, which is no key`, async () => {
      await failsWith("bug", given().put(key, Buffer.from("x")));
      await failsWith("bug", given().get(key));
      await failsWith("bug", given().head(key));
      await failsWith("bug", given().delete([key]));
    });
  }
}
