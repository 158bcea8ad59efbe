import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { writeAside } from "../../src/restore/aside-record.ts";
import { dropAside, noteRestored, putBack, setAside } from "../../src/restore/set-aside.ts";

const request = { is: "shared-1 to the moment T", bytes: 1 };
let folder: string;
let place: { dataDir: string; name: string };
let old: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "pgkit-aside-"));
  place = { dataDir: join(folder, "data"), name: "before" };
  old = join(folder, "before");
  await mkdir(place.dataDir, { mode: 0o700 });
  await writeFile(join(place.dataDir, "PG_VERSION"), "old");
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const holds = (dir: string) => readFile(join(dir, "PG_VERSION"), "utf8").catch((error) => error.code);
const restoreInto = (dir: string) => writeFile(join(dir, "PG_VERSION"), "new");

describe("what is in the data directory", () => {
  test("is renamed, and a new directory of its owner and mode is there to be restored into", async () => {
    const before = await stat(place.dataDir);
    expect(await setAside(place, request)).toEqual({ type: "begun" });
    expect(await holds(old)).toBe("old");
    const { uid, gid, mode } = await stat(place.dataDir);
    expect({ uid, gid, mode }).toEqual({ uid: before.uid, gid: before.gid, mode: before.mode });
    expect(await setAside(place, request)).toEqual({ type: "going-on" });
    await restoreInto(place.dataDir);
    await noteRestored(place, request, { reached: "0/1" });
    expect(await setAside(place, request)).toEqual({ type: "restored", result: { reached: "0/1" } });
    expect([await holds(old), await holds(place.dataDir)]).toEqual(["old", "new"]);
  });

  test("is renamed by the next run where one was killed between its record and the renaming, or after it", async () => {
    await writeAside(place, { is: request.is, state: "restoring" });
    expect(await setAside(place, request)).toEqual({ type: "begun" });
    await rm(place.dataDir, { recursive: true });
    expect(await setAside(place, request)).toEqual({ type: "going-on" });
    expect([await holds(old), await holds(place.dataDir)]).toEqual(["old", "ENOENT"]);
  });

  test("is not renamed over something, nor for another restore, nor where both do not fit", async () => {
    await expect(setAside(place, { ...request, bytes: 2 ** 60 })).rejects.toMatchObject({ code: "disk-full" });
    await mkdir(old);
    await expect(setAside(place, request)).rejects.toMatchObject({ code: "refused-overwrite" });
    await expect(putBack(place)).rejects.toMatchObject({ code: "refused-overwrite" });
    await expect(dropAside(place)).rejects.toMatchObject({ code: "refused-overwrite" });
    await rm(old, { recursive: true });
    expect(await holds(place.dataDir)).toBe("old");
    await setAside(place, request);
    const other = setAside(place, { ...request, is: "shared-1 to the moment U" });
    await expect(other).rejects.toMatchObject({ code: "refused-overwrite" });
  });

  test("is not renamed under a server; a lock file whose number is another process's now stops nobody", async () => {
    const server = spawn("sleep", ["600"], { cwd: place.dataDir });
    await once(server, "spawn");
    await writeFile(join(place.dataDir, "postmaster.pid"), `${server.pid}\n`);
    await expect(setAside(place, request)).rejects.toThrow("a server runs on");
    server.kill("SIGKILL");
    await once(server, "close");
    await writeFile(join(place.dataDir, "postmaster.pid"), `${process.pid}\n`);
    expect(await setAside(place, request)).toEqual({ type: "begun" });
  });
});

describe("what was set aside", () => {
  test("is put back: what was restored by half goes, what was restored whole is kept", async () => {
    await setAside(place, request);
    await restoreInto(place.dataDir);
    expect(await putBack(place)).toEqual({ put: true, kept: undefined });
    expect(await holds(place.dataDir)).toBe("old");
    await setAside(place, request);
    await restoreInto(place.dataDir);
    await noteRestored(place, request, {});
    expect(await putBack(place)).toEqual({ put: true, kept: `${old}.restored` });
    expect([await holds(place.dataDir), await holds(`${old}.restored`)]).toEqual(["old", "new"]);
    expect(await putBack(place)).toEqual({ put: false, kept: undefined });
    expect(await holds(place.dataDir)).toBe("old");
  });

  test("is put back by the next run where one was killed on the way", async () => {
    await setAside(place, request);
    await restoreInto(place.dataDir);
    await writeAside(place, { is: request.is, state: "putting-back", whole: true });
    await rename(place.dataDir, `${old}.restored`);
    await expect(setAside(place, request)).rejects.toThrow("being put back");
    expect(await putBack(place)).toMatchObject({ put: true });
    await writeAside(place, { is: request.is, state: "putting-back", whole: true });
    expect(await putBack(place)).toMatchObject({ put: true });
    expect([await holds(place.dataDir), await holds(`${old}.restored`)]).toEqual(["old", "new"]);
  });

  test("is removed only when the restore is complete", async () => {
    await setAside(place, request);
    await expect(dropAside(place)).rejects.toThrow("all that there is");
    await restoreInto(place.dataDir);
    await noteRestored(place, request, {});
    expect(await dropAside(place)).toEqual({ removed: true });
    expect([await holds(old), await holds(place.dataDir)]).toEqual(["ENOENT", "new"]);
    expect(await dropAside(place)).toEqual({ removed: false });
  });
});
