import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type ErrorCode, isPgkitError, PgkitError } from "../../src/lib/errors.ts";
import { readAll } from "../../src/store/body.ts";
import type { ObjectInfo, ObjectStore, StoreCapabilities } from "../../src/store/store.ts";

export interface Subject {
  store: ObjectStore;
  close?: () => Promise<void>;
}

export interface Expected {
  /** What the store must say of itself; what it lacks must be refused, and what it has must hold. */
  capabilities: Omit<StoreCapabilities, "clockSkewMs">;
  /** Sizes around this are tried: where the store goes over from one request to several. */
  partBytes?: number;
  /** False where only objects that go up in one request are proven. */
  provesParts?: boolean;
  /** How long an object is kept in the test of retention; a server that counts in seconds needs several. */
  retainMs?: number;
}

/** Every promise of `src/store/store.ts`, one `it` each, over a real store. Leaves nothing in it. */
export function conformance(name: string, open: () => Promise<Subject>, expected: Expected): void {
  describe(name, () => {
    let subject: Subject;
    let store: ObjectStore;
    let folders = 0;
    /** A folder of its own for each test, so that none sees what another left. */
    const folder = () => {
      folders += 1;
      return `c${folders}`;
    };
    beforeAll(async () => {
      subject = await open();
      store = subject.store;
    });
    afterAll(async () => {
      await subject.close?.();
    });
    const given = () => store;
    reading(given, folder, expected.partBytes ?? 100_000);
    conditions(given, folder, expected);
    failing(given, folder, expected.partBytes ?? 100_000);
    listing(given, folder);
    proving(given, folder, expected);
  });
}

type Given = () => ObjectStore;
type Folder = () => string;

function reading(given: Given, folder: Folder, part: number): void {
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

function conditions(
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

function failing(given: Given, folder: Folder, part: number): void {
  for (const bytes of [10, part + 10, 3 * part]) {
    it(`leaves the key as it was when a body fails after ${bytes} bytes, with the body's own error`, async () => {
      const store = given();
      const [fresh, present] = [`${folder()}/object`, `${folder()}/object`];
      await store.put(present, Buffer.from("before"));
      for (const key of [fresh, present]) {
        const ownError = new Error("the producer exited 1");
        const body = Readable.from(failingAfter(bytes, ownError), { objectMode: false });
        await expect(store.put(key, body)).rejects.toBe(ownError);
      }
      expect(await store.head(fresh)).toBeUndefined();
      expect((await readAll(await store.get(present))).toString()).toBe("before");
      expect(await uploadsOf(store)).toEqual([]);
      await store.delete([present]);
    });

    it(`leaves the key as it was when the signal comes after ${bytes} bytes, and ends the body`, async () => {
      const store = given();
      const key = `${folder()}/object`;
      const stop = new AbortController();
      const body = endless(bytes, () => stop.abort());
      await failsWith("cancelled", store.put(key, body, { signal: stop.signal }));
      if (!body.closed) await once(body, "close");
      expect(await store.head(key)).toBeUndefined();
      expect(await uploadsOf(store)).toEqual([]);
    });
  }

  it("does nothing once the signal is aborted", async () => {
    const store = given();
    const key = `${folder()}/object`;
    await store.put(key, Buffer.from("kept"));
    const signal = AbortSignal.abort();
    await failsWith("cancelled", store.put(key, Buffer.from("other"), { signal }));
    await failsWith("cancelled", store.get(key, { signal }));
    await failsWith("cancelled", store.head(key, { signal }));
    await failsWith("cancelled", store.delete([key], { signal }));
    await failsWith("cancelled", all(store.list(key, { signal })));
    await failsWith("cancelled", store.capabilities({ signal }));
    expect((await readAll(await store.get(key))).toString()).toBe("kept");
    await store.delete([key]);
  });

  it("fails a body with the signal's reason when it is aborted while the body is read", async () => {
    const store = given();
    const key = `${folder()}/object`;
    await store.put(key, randomBytes(3 * part));
    const stop = new AbortController();
    const reason = new PgkitError("store-unreachable", "too slow");
    const body = await store.get(key, { signal: stop.signal });
    const end = (async () => {
      for await (const chunk of body) if (chunk !== undefined) stop.abort(reason);
    })();
    await expect(end).rejects.toBe(reason);
    await store.delete([key]);
  });

  it("fails as cancelled, whatever the signal's reason, and ends the source when a reader goes", async () => {
    const store = given();
    const key = `${folder()}/object`;
    await store.put(key, randomBytes(3 * part));
    const body = await store.get(key);
    await once(body, "readable");
    body.destroy();
    await once(body, "close");
    expect((await readAll(await store.get(key))).length).toBe(3 * part);
    await store.delete([key]);
  });
}

function listing(given: Given, folder: Folder): void {
  it("lists in the byte order of whole keys, by any prefix, and after any key", async () => {
    const store = given();
    const top = folder();
    const names = ["a/b", "a-b", "a.b", "a0", "a/b-c/d", "a/b.c", "a=", "aA", "a/c", "b", "a-/x", "a+"];
    const keys = names.map((name) => `${top}/${name}`).sort();
    await Promise.all(
      keys.filter((key) => !isFolderOfAnother(key, keys)).map((key) => store.put(key, Buffer.from("x"))),
    );
    const stored = keys.filter((key) => !isFolderOfAnother(key, keys));
    const listed = async (prefix: string, after?: string) =>
      (await all(store.list(prefix, { after }))).map((found) => found.key);
    expect(await listed(`${top}/`)).toEqual(stored);
    for (const prefix of ["a", "a/", "a/b", "a-", "a/b-", "aa", "a/b-c/d", "b/"]) {
      const wanted = `${top}/${prefix}`;
      expect(await listed(wanted), prefix).toEqual(stored.filter((key) => key.startsWith(wanted)));
    }
    for (const name of ["a", "a-", "a/", "a/b", "a/b-c", "a/b-c/d", "a/zzz", "a0", "zzz", "0"]) {
      const after = `${top}/${name}`;
      expect(await listed(`${top}/`, after), name).toEqual(stored.filter((key) => key > after));
      expect(await listed(`${top}/a/`, after), name).toEqual(
        stored.filter((key) => key.startsWith(`${top}/a/`) && key > after),
      );
    }
    expect(await listed(`${top}/../`)).toEqual([]);
    expect(await listed("no-such-folder/")).toEqual([]);
    await store.delete(stored);
    expect(await listed(`${top}/`)).toEqual([]);
  });

  it("lists and removes more keys than one page or one request holds", async () => {
    const store = given();
    const top = folder();
    const keys = Array.from({ length: 1_050 }, (_, index) => `${top}/k${String(index).padStart(5, "0")}`);
    const left = [...keys];
    const put = async () => {
      for (let key = left.pop(); key !== undefined; key = left.pop()) await store.put(key, Buffer.from("x"));
    };
    await Promise.all(Array.from({ length: 32 }, put));
    const found = (await all(store.list(`${top}/`))).map((info) => info.key);
    expect(found).toEqual(keys);
    const rest = (await all(store.list(`${top}/`, { after: keys[20] }))).map((info) => info.key);
    expect(rest).toEqual(keys.slice(21));
    for await (const first of store.list(`${top}/`)) {
      expect(first.key).toBe(keys[0]);
      break;
    }
    await store.delete([...keys, `${top}/never-there`]);
    expect(await all(store.list(`${top}/`))).toEqual([]);
  });

  it("removes what is named and no more; what is not there is no error", async () => {
    const store = given();
    const top = folder();
    await store.put(`${top}/a/b`, Buffer.from("x"));
    await store.put(`${top}/a/bc`, Buffer.from("x"));
    await store.delete([`${top}/a/b`, `${top}/a/b`, `${top}/nothing`]);
    await store.delete([`${top}/a/b`, `${top}/a`]);
    await store.delete([]);
    expect((await all(store.list(`${top}/`))).map((found) => found.key)).toEqual([`${top}/a/bc`]);
    await store.delete([`${top}/a/bc`]);
  });
}

function proving(
  given: Given,
  folder: Folder,
  { capabilities: can, partBytes: part = 100_000, provesParts = true }: Expected,
): void {
  it("says that an object is proven where the store computed its checksum, and else not", async () => {
    const store = given();
    const key = `${folder()}/object`;
    const proven = async (body: Readable | Uint8Array) => (await store.put(key, body)).proven;
    expect(await proven(randomBytes(10))).toBe(can.checksum !== "none");
    expect(await proven(inPieces(randomBytes(10)))).toBe(can.checksum !== "none");
    expect(await proven(inPieces(randomBytes(3 * part)))).toBe(can.checksum !== "none" && provesParts);
    await store.delete([key]);
  });

  it("leaves nothing behind", async () => {
    expect(await all(given().list(""))).toEqual([]);
    expect(await uploadsOf(given())).toEqual([]);
  });
}

/** In chunks of odd sizes, as a compressor would give them. */
function inPieces(content: Buffer): Readable {
  const pieces = function* () {
    for (let at = 0, size = 1; at < content.length; at += size, size = (size * 7 + 3) % 90_001) {
      if (size === 0) size = 1;
      yield content.subarray(at, at + size);
    }
  };
  return Readable.from(pieces(), { objectMode: false });
}

function* failingAfter(bytes: number, error: Error): Generator<Buffer> {
  for (let at = 0; at < bytes; at += 50_000) yield Buffer.alloc(Math.min(50_000, bytes - at), "x");
  throw error;
}

/** Gives so many bytes, calls `then`, and then gives nothing more and does not end, as a stalled producer would. */
function endless(bytes: number, then: () => void): Readable {
  let at = 0;
  return new Readable({
    read() {
      if (at < bytes) {
        const size = Math.min(50_000, bytes - at);
        at += size;
        this.push(Buffer.alloc(size, "x"));
      } else {
        then();
      }
    },
  });
}

/** A folder cannot hold both `a/b` and `a/b/c`; pgkit's layout has no such keys. */
function isFolderOfAnother(key: string, keys: readonly string[]): boolean {
  return keys.some((other) => other.startsWith(`${key}/`));
}

async function uploadsOf(store: ObjectStore): Promise<string[]> {
  const keys: string[] = [];
  for await (const upload of store.uploads?.list() ?? []) keys.push(upload.key);
  return keys;
}

export async function all(found: AsyncIterable<ObjectInfo>): Promise<ObjectInfo[]> {
  const infos: ObjectInfo[] = [];
  for await (const info of found) infos.push(info);
  return infos;
}

export async function failsWith(code: ErrorCode, work: Promise<unknown>): Promise<PgkitError> {
  const error = await work.then(
    (result) => new Error(`did not fail, but gave ${JSON.stringify(result)}`),
    (reason: unknown) => reason,
  );
  if (!isPgkitError(error, code)) throw new Error(`expected ${code}, got ${String(error)}`, { cause: error });
  return error;
}
