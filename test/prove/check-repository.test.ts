import { execFile } from "node:child_process";
import { chmod, mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { PgkitError } from "../../src/lib/errors.ts";
import { systemClock } from "../../src/lib/time.ts";
import type { Finding } from "../../src/prove/finding.ts";
import { withLease } from "../../src/repo/lease.ts";
import { faultyStore } from "../../src/store/faulty.ts";
import { fileStore } from "../../src/store/file.ts";
import { memoryStore } from "../../src/store/memory.ts";
import { readOnlyStore } from "../../src/store/read-only.ts";
import type { ObjectStore } from "../../src/store/store.ts";
import { keysOf, repositoryIn, storeBackup } from "../repo/support.ts";
import { checkedStore, emptyFolder } from "./support.ts";

const denied = new PgkitError("store-denied", "you may not", { hint: "ask for the right" });

describe("pgkit check of a folder", () => {
  it("stores, reads back, lists and removes, and leaves neither probes nor a repository", async () => {
    const path = await emptyFolder();
    const store = fileStore({ path });
    const result = await checkedStore(store, { url: pathToFileURL(path).href });
    expect(result.problems()).toEqual([]);
    expect(result.of("objects")).toMatchObject([{ message: expect.stringContaining("objects of 0 B, 1 B, 5.0 MiB") }]);
    expect(result.of("removal")).toHaveLength(1);
    expect(result.of("repository")).toMatchObject([{ message: expect.stringContaining("the first backup makes it") }]);
    expect(await keysOf(store)).toEqual([]);
  });

  it("does not make one that is not there, and says where it will be", async () => {
    const above = await emptyFolder();
    const path = join(above, "a", "b");
    const result = await checkedStore(fileStore({ path }), { url: pathToFileURL(path).href });
    expect(result.of("folder")).toMatchObject([
      { level: "ok", message: expect.stringContaining(`will be made in ${above}`) },
    ]);
    expect(result.problems()).toEqual([]);
    expect(await readdir(above)).toEqual([]);
  });

  it("warns of one that others may look into, and of a file in its place", async () => {
    const path = await emptyFolder();
    await chmod(path, 0o755);
    const url = pathToFileURL(path).href;
    const [found] = (await checkedStore(fileStore({ path }), { url })).of("folder");
    expect(found).toMatchObject({ level: "warning", message: expect.stringContaining("(mode 755)") });
    const file = join(path, "file");
    await writeFile(file, "");
    const result = await checkedStore(fileStore({ path: file }), { url: pathToFileURL(file).href });
    expect(result.of("folder")).toMatchObject([{ level: "error", message: expect.stringContaining("is a file") }]);
  });

  it("on a disk that is full, or mounted to be read alone, is an error before a backup meets it", async () => {
    const path = await emptyFolder();
    const full = await checkedOn(path, "mount -t tmpfs -o size=3m,mode=700 none");
    expect(full.status).toBe(13);
    expect(problemsOf(full.findings)).toMatchObject([
      { check: "scratch folder", level: "warning", remedy: expect.stringContaining("TMPDIR") },
      { check: "objects", level: "error", code: "store-full", remedy: expect.stringContaining("free space") },
      { check: "space", level: "warning" },
    ]);
    const closed = await checkedOn(path, "mount -t tmpfs -o ro,mode=700 none");
    expect(closed.status).toBe(40);
    expect(problemsOf(closed.findings)).toMatchObject([
      { check: "scratch folder", level: "error", remedy: expect.stringContaining("TMPDIR") },
      { check: "folder", code: "store-denied", remedy: "it is mounted read-only" },
    ]);
    expect([...full.bugs, ...closed.bugs]).toEqual([]);
  });

  it("with less space than the newest backups take is an error, whatever older ones took", async () => {
    const path = await emptyFolder();
    const repository = await repositoryIn(fileStore({ path }));
    await storeBackup(repository, { id: "old", storedBytes: 2 ** 60, startedAt: "2026-10-01T02:00:00Z" });
    await storeBackup(repository, { id: "new", storedBytes: 10 });
    const url = pathToFileURL(path).href;
    expect((await checkedStore(fileStore({ path }), { url })).of("space")).toMatchObject([{ level: "ok" }]);
    await storeBackup(repository, { id: "newer", storedBytes: 2 ** 60, startedAt: "2026-11-02T02:00:00Z" });
    const result = await checkedStore(fileStore({ path }), { url });
    expect(result.of("space")).toMatchObject([{ level: "error", code: "store-full" }]);
  });
});

describe("pgkit check of what a store promises", () => {
  it("finds a store that keeps everything without a fault", async () => {
    const result = await checkedStore(memoryStore());
    expect(result.problems()).toEqual([expect.stringContaining("encryption: backups are not encrypted")]);
    expect(result.of("conditional writes")).toMatchObject([{ level: "ok" }]);
    expect(result.of("checksum")).toMatchObject([{ message: expect.stringContaining("crc32") }]);
  });

  it("warns where conditions are known to be ignored, and is not taken in by a store that only says it keeps them", async () => {
    const poor = await checkedStore(memoryStore({ lacks: ["createIfAbsent"] }));
    expect(poor.of("conditional writes")).toMatchObject([
      { level: "warning", remedy: expect.stringContaining("--single-writer") },
    ]);
    expect(poor.status).toBe(0);
    const store = memoryStore();
    const lying: ObjectStore = {
      ...store,
      put: (key, body, { when: _, ...options } = {}) => store.put(key, body, options),
    };
    const lied = await checkedStore(lying);
    expect(lied.of("conditional writes")).toMatchObject([
      { level: "error", message: expect.stringContaining("3 were told that they did") },
    ]);
    expect(lied.status).toBe(13);
    expect(await keysOf(store)).toEqual([]);
  });

  it("notices bytes that come back changed, and objects that no list shows", async () => {
    const store = memoryStore();
    const changing: ObjectStore = {
      ...store,
      get: async (key, options) => {
        const { bytes = 0 } = (await store.head(key)) ?? {};
        return store.get(key, bytes < 2 ? options : { ...options, range: { first: 1, last: bytes } });
      },
    };
    const changed = await checkedStore(changing);
    expect(changed.status).toBe(40);
    expect(changed.of("objects")).toMatchObject([{ code: "object-corrupt" }]);
    const hiding: ObjectStore = { ...store, list: () => memoryStore().list("") };
    expect((await checkedStore(hiding)).of("objects")).toMatchObject([{ code: "store-failed" }]);
    expect(await keysOf(store)).toEqual([]);
  });

  it("names the right that is missing: to store is needed, to remove only for prune", async () => {
    const noPut = await checkedStore(
      faultyStore(memoryStore(), [{ call: 1, method: "put", times: 99, does: "fail", error: denied }]),
    );
    expect(noPut.status).toBe(12);
    expect(noPut.of("objects")).toMatchObject([{ level: "error", remedy: "ask for the right" }]);
    const noDelete = await checkedStore(
      faultyStore(memoryStore(), [{ call: 1, method: "delete", times: 99, does: "fail", error: denied }]),
    );
    expect(noDelete.status).toBe(0);
    expect(noDelete.of("removal")).toMatchObject([
      { level: "warning", message: expect.stringContaining("pgkit prune cannot work") },
    ]);
  });

  it("removes what earlier checks left that were killed, and not what one under way is using", async () => {
    const clock = { ...systemClock };
    const store = memoryStore({ clock });
    clock.now = () => new Date(Date.now() - 2 * 86_400_000);
    await store.put("probe/check-old/1", Buffer.from("1"));
    clock.now = () => new Date();
    await store.put("probe/check-new/1", Buffer.from("1"));
    await checkedStore(store);
    expect(await keysOf(store)).toEqual(["probe/check-new/1"]);
  });

  it("compares the object lock that is configured with the one that is kept", async () => {
    const poor = memoryStore({ lacks: ["objectLock"] });
    const wanted = await checkedStore(poor, { objectLockMs: 86_400_000 });
    expect(wanted.of("object lock")).toMatchObject([{ level: "error", code: "store-unsupported" }]);
    expect((await checkedStore(memoryStore(), { objectLockMs: 86_400_000 })).of("object lock")).toMatchObject([
      { level: "ok" },
    ]);
    expect((await checkedStore(poor)).of("object lock")).toMatchObject([{ level: "ok", message: "not configured" }]);
  });

  it("warns of a checksum that is configured and not kept", async () => {
    const result = await checkedStore(memoryStore({ lacks: ["checksum"] }), { storage: { checksum: "crc32" } });
    expect(result.of("checksum")).toMatchObject([{ level: "warning" }]);
  });

  it.each([
    [59_000, "s3://bucket", "ok"],
    [120_000, "s3://bucket", "warning"],
    [-400_000, "s3://bucket", "error"],
    [-400_000, "azure://account/container", "warning"],
  ])("a clock %i ms off at %s is %s", async (clockSkewMs, url, level) => {
    const store = memoryStore();
    const skewed = { ...store, capabilities: async () => ({ ...(await store.capabilities()), clockSkewMs }) };
    const [found] = (await checkedStore(skewed, { url })).of("clock");
    expect(found).toMatchObject({ level });
    if (level !== "ok") expect(found?.message).toContain(clockSkewMs > 0 ? "behind" : "ahead of");
  });

  it("gives up on a store that hangs, with the status of an unreachable one", async () => {
    const hanging = faultyStore(memoryStore(), [{ call: 1, times: 99, does: "hang" }]);
    const result = await checkedStore(hanging, {}, { deadlineMs: 300 });
    expect(result.status).toBe(13);
    expect(result.problems()[0]).toBe("repository: no answer within 0.3 s");
  });

  it("writes nothing under --dry-run, and says what that leaves out", async () => {
    const store = memoryStore();
    await repositoryIn(store);
    const before = await keysOf(store);
    const result = await checkedStore(readOnlyStore(store), {}, { dryRun: true });
    expect(result.bugs).toEqual([]);
    expect(result.of("dry run")).toMatchObject([
      { level: "warning", message: expect.stringContaining("conditional writes") },
    ]);
    expect(result.of("leases")).toMatchObject([{ level: "ok" }]);
    expect(await keysOf(store)).toEqual(before);
  });
});

describe("pgkit check of what is in a repository", () => {
  it("names each manifest that cannot be read, and counts the others", async () => {
    const store = memoryStore();
    const repository = await repositoryIn(store);
    await storeBackup(repository, { id: "good" });
    await store.put("backups/shared/cut.json", Buffer.from('{ "format": 1'));
    const result = await checkedStore(store);
    expect(result.of("manifests")).toMatchObject([
      { level: "error", code: "manifest-corrupt", message: expect.stringContaining("shared/cut") },
      { level: "ok", message: expect.stringContaining("1 backup(s)") },
    ]);
    expect(result.status).toBe(40);
  });

  it("tells who is working on it", async () => {
    const store = memoryStore();
    const repository = await repositoryIn(store);
    const holder = { host: "node-7", pid: 4711, command: "backup logical" };
    const lease = { clock: systemClock, holder, ttlMs: 60_000, report: () => undefined };
    await withLease(repository, "backup-shared", lease, async () => {
      const [found] = (await checkedStore(store)).of("leases");
      expect(found?.message).toMatch(/^backup-shared is held by backup logical on node-7, process 4711, since /);
    });
    expect((await checkedStore(store)).of("leases")).toMatchObject([{ message: "nobody is working on it" }]);
  });

  it("counts unfinished uploads older than a day; those who may not list them are only warned", async () => {
    const store = memoryStore();
    await repositoryIn(store);
    const hour = 3_600_000;
    const uploads = (...agesMs: number[]): ObjectStore => ({
      ...store,
      uploads: {
        async *list() {
          for (const age of agesMs) yield { key: "files/a", startedAt: new Date(Date.now() - age) };
        },
        abort: async () => 0,
      },
    });
    expect((await checkedStore(uploads(hour))).of("uploads")).toMatchObject([{ level: "ok" }]);
    const [stray] = (await checkedStore(uploads(hour, 25 * hour, 300 * hour))).of("uploads");
    expect(stray).toMatchObject({
      level: "warning",
      message: expect.stringMatching(/^2 unfinished/),
      remedy: expect.stringContaining("pgkit prune"),
    });
    const closed = memoryStore();
    await repositoryIn(closed);
    const list = () => faultyStore(closed, [{ call: 1, does: "fail", error: denied }]).list("") as never;
    const refusing = { ...closed, uploads: { list, abort: async () => 0 } };
    expect((await checkedStore(refusing)).of("uploads")).toMatchObject([{ level: "warning" }]);
  });
});

interface ChildResult {
  findings: Finding[];
  bugs: unknown[];
  status: number;
}

/** In a mount namespace of its own, which ends with the process. */
async function checkedOn(path: string, mount: string): Promise<ChildResult> {
  await mkdir(path, { recursive: true });
  const child = fileURLToPath(new URL("check-child.ts", import.meta.url));
  const script = `${mount} "$1" && exec "$2" "$3" "$1"`;
  const { stdout } = await promisify(execFile)("unshare", [
    "-rm",
    "sh",
    "-c",
    script,
    "sh",
    path,
    process.execPath,
    child,
  ]);
  return JSON.parse(stdout);
}

function problemsOf(findings: readonly Finding[]): Finding[] {
  return findings.filter(({ level }) => level !== "ok");
}
