import { mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { systemClock } from "../../src/lib/time.ts";
import { identityKey } from "../../src/repo/layout.ts";
import { openOrCreateRepository } from "../../src/repo/repository.ts";
import { standing } from "../../src/repo/standing.ts";
import { deviceOf } from "../../src/store/file/device.ts";
import { fileStore } from "../../src/store/file.ts";
import { repositoryIn, settings } from "./support.ts";

async function newPlace() {
  const folder = await mkdtemp(join(tmpdir(), "pgkit-standing-"));
  onTestFinished(async () => await rm(folder, { recursive: true, force: true }));
  const path = join(folder, "repository");
  let device = "1";
  const { store } = await standing(await repositoryIn(fileStore({ path })), async () => device);
  const all = async () => {
    const names: string[] = [];
    for await (const { key } of store.list("wal/")) names.push(key);
    return names;
  };
  return {
    ...{ path, store, all },
    /** What is left of a file system that is not mounted: the folder beneath it. */
    unmount: async () => {
      await rename(path, `${path}.away`);
      await mkdir(path);
      device = "2";
    },
    mount: async (number: string) => {
      await rm(path, { recursive: true, force: true });
      await rename(`${path}.away`, path);
      device = number;
    },
  };
}

test("the empty folder beneath a file system that went away takes nothing, and its emptiness is no answer", async () => {
  const { path, store, all, unmount, mount } = await newPlace();
  await store.put("wal/1", Buffer.from("1"), { when: "absent" });
  await unmount();
  const gone = { code: "store-failed", message: expect.stringMatching(/there is no repository now/) };
  await expect(store.put("wal/2", Buffer.from("2"))).rejects.toMatchObject(gone);
  await expect(store.get("wal/1")).rejects.toMatchObject(gone);
  await expect(store.head("wal/1")).rejects.toMatchObject(gone);
  await expect(store.delete(["wal/1"])).rejects.toMatchObject(gone);
  await expect(all()).rejects.toMatchObject(gone);
  expect(await readdir(path)).toEqual([]);
  // The same file system has another number when it is mounted again.
  await mount("3");
  expect(await store.head("wal/2")).toBeUndefined();
  await store.put("wal/2", Buffer.from("2"));
  expect(await all()).toEqual(["wal/1", "wal/2"]);
});

test("another repository that was made there meanwhile is not taken for it", async () => {
  const { path, store, all, unmount } = await newPlace();
  await unmount();
  const other = await openOrCreateRepository(fileStore({ path }), settings, systemClock);
  await expect(store.put("wal/1", Buffer.from("1"))).rejects.toMatchObject({ code: "store-failed" });
  await expect(all()).rejects.toMatchObject({ message: expect.stringMatching(/another repository is there now/) });
  expect(await other.store.head("wal/1")).toBeUndefined();
});

test("what was written while the file system went away is not acknowledged", async () => {
  const { path, store, unmount } = await newPlace();
  const slow = async function* () {
    yield Buffer.from("half");
    await unmount();
    yield Buffer.from("whole");
  };
  const { Readable } = await import("node:stream");
  await expect(store.put("wal/1", Readable.from(slow()))).rejects.toMatchObject({ code: "store-failed" });
  await rm(join(path, identityKey), { force: true });
});

test("the number of a file system is that of the nearest folder there is", async () => {
  expect(await deviceOf(join(tmpdir(), "not", "there"))).toBe(await deviceOf(tmpdir()));
  expect(await deviceOf("/proc/self")).not.toBe(await deviceOf("/"));
});
