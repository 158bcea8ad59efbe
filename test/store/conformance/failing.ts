import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { Readable } from "node:stream";
import { expect, it } from "vitest";
import { PgkitError } from "../../../src/lib/errors.ts";
import { readAll } from "../../../src/store/body.ts";
import { endless, failingAfter } from "../bodies.ts";
import { all, failsWith, uploadsOf } from "../outcome.ts";
import type { Folder, Given } from "./given.ts";

export function failing(given: Given, folder: Folder, part: number): void {
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

  it("lets a reader go before the end, and reads again after", async () => {
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
