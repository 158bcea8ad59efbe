import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { lstat, mkdir, mkdtemp, open, readdir, readFile, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { thisOwner } from "../../src/lib/owner.ts";
import { readAll } from "../../src/store/body.ts";
import { fileError } from "../../src/store/file/errors.ts";
import { fileStore } from "../../src/store/file.ts";
import { all, failsWith } from "./outcome.ts";

const script = fileURLToPath(new URL("file-child.ts", import.meta.url));
let path: string;
const children: ChildProcess[] = [];

beforeEach(async () => {
  path = await mkdtemp(join(tmpdir(), "pgkit-store-"));
});
afterEach(async () => {
  for (const child of children.splice(0)) if (child.exitCode === null) child.kill("SIGKILL");
  await rm(path, { recursive: true });
});

function run(...args: string[]): ChildProcess {
  const started = spawn(process.execPath, [script, ...args], { stdio: ["ignore", "pipe", "inherit"] });
  children.push(started);
  return started;
}

/** Waits until the child says that it has begun. */
async function begun(child: ChildProcess): Promise<ChildProcess> {
  if (child.stdout !== null) await once(child.stdout, "data");
  return child;
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill("SIGKILL");
  await once(child, "exit");
}

describe("a folder as a store", () => {
  it("can be read by its owner alone", async () => {
    const store = fileStore({ path: join(path, "new") });
    await store.put("a/b/c", Buffer.from("1"));
    for (const folder of ["new", "new/a", "new/a/b", "new/~pgkit"]) {
      expect((await lstat(join(path, folder))).mode & 0o777, folder).toBe(0o700);
    }
    expect((await lstat(join(path, "new/a/b/c"))).mode & 0o777).toBe(0o600);
  });

  // As a disk would that loses a write: in what is read back while more comes, and in what is read back at the end.
  it.each([0, 68])("gives no name to an object of which other bytes come back from megabyte %d", async (megabyte) => {
    const store = fileStore({ path });
    await store.put("a/b", Buffer.from("before"));
    const damage = async () => {
      const [temp = ""] = (await readdir(join(path, "~pgkit"))).filter((name) => name.startsWith("temp."));
      const file = await open(join(path, "~pgkit", temp), "r+");
      await file.write(Buffer.from("y"), 0, 1, megabyte * 1024 * 1024 + 100);
      await file.close();
    };
    const body = async function* () {
      for (let sent = 0; sent < 80; sent++) {
        yield Buffer.alloc(1024 * 1024, "x");
        if (sent === megabyte + 4) await damage();
      }
    };
    await failsWith("object-corrupt", store.put("a/b", Readable.from(body())));
    expect(await readFile(join(path, "a/b"), "utf8")).toBe("before");
    expect(await readdir(join(path, "~pgkit"))).toEqual([]);
  });

  it("keeps objects as plain files under their keys, and nothing else once it is done", async () => {
    const store = fileStore({ path });
    await store.put("a/b", Buffer.from("1"));
    await store.put("a/b", Buffer.from("2"), { when: { etag: (await store.head("a/b"))?.etag ?? "" } });
    await store.put("a/c", Buffer.from("3"), { when: "absent" });
    expect(await readFile(join(path, "a/b"), "utf8")).toBe("2");
    expect((await lstat(join(path, "a/c"))).nlink).toBe(1);
    expect(await readdir(join(path, "~pgkit"))).toEqual([]);
    await store.delete(["a/b", "a/c"]);
    expect(await readdir(path)).toEqual(["~pgkit"]);
  });

  it("does not follow symbolic links, in lists, reads, writes or removals", async () => {
    const outside = join(path, "outside");
    await mkdir(outside);
    await writeFile(join(outside, "secret"), "secret");
    await mkdir(join(path, "store"));
    await symlink(outside, join(path, "store/folder"));
    await symlink(join(outside, "secret"), join(path, "store/file"));
    const store = fileStore({ path: join(path, "store") });
    expect(await all(store.list(""))).toEqual([]);
    expect(await all(store.list("folder/"))).toEqual([]);
    expect(await store.head("file")).toBeUndefined();
    await failsWith("store-denied", store.get("file"));
    await failsWith("store-denied", store.get("folder/secret"));
    await failsWith("store-denied", store.put("folder/new", Buffer.from("1")));
    await failsWith("store-denied", store.delete(["folder/secret"]));
    await store.delete(["file"]);
    expect(await readdir(outside)).toEqual(["secret"]);
    expect(await readFile(join(outside, "secret"), "utf8")).toBe("secret");
  });

  it("itself may be behind a symbolic link", async () => {
    await mkdir(join(path, "real"));
    await symlink(join(path, "real"), join(path, "link"));
    const store = fileStore({ path: join(path, "link") });
    await store.put("a/b", Buffer.from("1"));
    expect((await readAll(await store.get("a/b"))).toString()).toBe("1");
    expect(await readFile(join(path, "real/a/b"), "utf8")).toBe("1");
  });

  it("that is not there yet is empty; one that cannot be read is not", async () => {
    const absent = fileStore({ path: join(path, "absent") });
    expect(await all(absent.list(""))).toEqual([]);
    expect(await absent.head("a")).toBeUndefined();
    await failsWith("object-missing", absent.get("a"));
    await writeFile(join(path, "file"), "x");
    await failsWith("store-failed", fileStore({ path: join(path, "file") }).put("a", Buffer.from("1")));
  });

  it("does not take what others keep there for objects, nor what it is itself in the middle of", async () => {
    const store = fileStore({ path });
    for (const name of ["lost+found/x", "a folder/x", "~pgkit/temp.x", "ok/~x"]) {
      await mkdir(join(path, name, ".."), { recursive: true });
      await writeFile(join(path, name), "x");
    }
    await store.put("ok/a", Buffer.from("1"));
    expect((await all(store.list(""))).map((found) => found.key)).toEqual(["ok/a"]);
  });

  it("says what a full, closed or read-only file system means", () => {
    const of = (code: string) => fileError(Object.assign(new Error(code), { code }), "writing").code;
    expect([of("ENOSPC"), of("EDQUOT"), of("EACCES"), of("EPERM"), of("EROFS"), of("EIO")]).toEqual([
      "store-full",
      "store-full",
      "store-denied",
      "store-denied",
      "store-denied",
      "store-failed",
    ]);
  });

  it("that fills up says so, and keeps what was there and nothing of the rest", async () => {
    const full = spawn(
      "unshare",
      [
        "-rm",
        "sh",
        "-c",
        `mount -t tmpfs -o size=8m none "$1" && exec "$2" "$3" fill "$1"`,
        "sh",
        path,
        process.execPath,
        script,
      ],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    const said = JSON.parse(await text(full.stdout)) as { code: string; message: string; large: unknown };
    expect(said).toMatchObject({ code: "store-full", large: null });
    expect(said.message).toContain(`writing large in file://${path}`);
  });

  it("knows a removed folder's neighbours: writers and removers of one folder do not trip over each other", async () => {
    const store = fileStore({ path });
    const rounds = Array.from({ length: 40 }, (_, index) => `a/b/c/${index}`);
    await Promise.all(
      rounds.map(async (key) => {
        await store.put(key, Buffer.from("1"), key.endsWith("3") ? {} : { when: "absent" });
        await store.delete([key]);
      }),
    );
    expect(await all(store.list(""))).toEqual([]);
  });
});

describe("several processes on one folder", () => {
  it("count together by compare and set without losing one", async () => {
    const store = fileStore({ path });
    await store.put("counter", Buffer.from("0"));
    const ends = Array.from({ length: 3 }, () => once(run("count", path, "20"), "exit"));
    for (const [code] of await Promise.all(ends)) expect(code).toBe(0);
    expect((await readAll(await store.get("counter"))).toString()).toBe("60");
    expect(await readdir(join(path, "~pgkit"))).toEqual([]);
  });

  it("do not wait for one that was killed while it changed an object", async () => {
    const store = fileStore({ path });
    const { etag } = await store.put("lease", Buffer.from("1"));
    await kill(await begun(run("hold-claim", path, "lease")));
    expect(await readdir(join(path, "~pgkit"))).toHaveLength(1);
    const before = performance.now();
    await store.put("lease", Buffer.from("2"), { when: { etag } });
    expect(performance.now() - before).toBeLessThan(5_000);
    expect(await readdir(join(path, "~pgkit"))).toEqual([]);
  });

  it("wait for one that is changing the object", async () => {
    const store = fileStore({ path });
    const { etag } = await store.put("lease", Buffer.from("1"));
    const holder = await begun(run("hold-claim", path, "lease"));
    let done = false;
    const put = store.put("lease", Buffer.from("2"), { when: { etag } }).then(() => {
      done = true;
    });
    await store.put("other", Buffer.from("not held up"));
    expect(done).toBe(false);
    holder.kill("SIGKILL");
    await put;
  });

  it("pass over the claim of another machine only once it is a minute old", async () => {
    const store = fileStore({ path });
    await store.put("lease", Buffer.from("1"));
    const holder = await begun(run("hold-claim", path, "lease"));
    const [name = ""] = await readdir(join(path, "~pgkit"));
    const [kind, hash, owner = "", id] = name.split(".");
    const foreign = [kind, hash, owner.replace(/^[0-9a-f]{12}/, "0123456789ab"), id].join(".");
    await kill(holder);
    await writeFile(join(path, "~pgkit", foreign), "");
    let done = false;
    const put = store.put("lease", Buffer.from("2")).then(() => {
      done = true;
    });
    await store.put("other", Buffer.from("1"));
    expect(done).toBe(false);
    const old = new Date(Date.now() - 61_000);
    await utimes(join(path, "~pgkit", foreign), old, old);
    await put;
    expect(await readdir(join(path, "~pgkit"))).toEqual([]);
  });

  it("see whole objects only, whenever one of them is killed", async () => {
    const store = fileStore({ path });
    for (let round = 0; round < 4; round += 1) {
      const writer = await begun(run("put-for-ever", path));
      await expect.poll(async () => (await all(store.list(""))).length).toBeGreaterThan(round);
      await kill(writer);
      for (const { key, bytes } of await all(store.list(""))) {
        expect(bytes).toBe(64 * 65_536);
        const content = await readAll(await store.get(key));
        expect(content.equals(Buffer.alloc(bytes, content[0]))).toBe(true);
      }
    }
  });

  it("collect what a killed one left more than a day ago, with the first removal, and only that", async () => {
    const store = fileStore({ path });
    await store.put("a", Buffer.from("1"));
    const self = await thisOwner();
    const temp = async (owner: string, daysAgo: number) => {
      const name = `temp.${owner}.${daysAgo}`;
      await writeFile(join(path, "~pgkit", name), "x");
      const time = new Date(Date.now() - daysAgo * 24 * 3_600_000);
      await utimes(join(path, "~pgkit", name), time, time);
      return name;
    };
    const dead = `${self.host}-${2 ** 22 + 1}-77`;
    const [old, young] = [await temp(dead, 2), await temp(dead, 0.5)];
    const ofAnother = await temp("0123456789ab-1-1", 3);
    const alive = await temp(`${self.host}-${self.pid}-${self.started}`, 2);
    const strays: string[] = [];
    for await (const { key } of store.uploads?.list() ?? []) strays.push(key);
    expect(strays.sort()).toEqual([old, young, ofAnother].sort());
    await store.delete(["a"]);
    expect((await readdir(join(path, "~pgkit"))).sort()).toEqual([young, alive].sort());
    expect(await store.uploads?.abort(new Date())).toBe(1);
    expect(await readdir(join(path, "~pgkit"))).toEqual([alive]);
  });
});
