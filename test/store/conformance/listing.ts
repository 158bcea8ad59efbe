import { expect, it } from "vitest";
import { all } from "../outcome.ts";
import type { Expected, Folder, Given } from "./given.ts";

export function listing(given: Given, folder: Folder, { keys: count = 1_050 }: Expected): void {
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

  it(`lists and removes ${count} keys`, async () => {
    const store = given();
    const top = folder();
    const keys = Array.from({ length: count }, (_, index) => `${top}/k${String(index).padStart(5, "0")}`);
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
  }, 180_000);

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

/** A folder cannot hold both `a/b` and `a/b/c`; pgkit's layout has no such keys. */
function isFolderOfAnother(key: string, keys: readonly string[]): boolean {
  return keys.some((other) => other.startsWith(`${key}/`));
}
