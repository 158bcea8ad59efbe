import { execFile } from "node:child_process";
import { createReadStream } from "node:fs";
import { mkdir, mkdtemp, readFile, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { collect } from "../../src/lib/streams.ts";
import { readTar } from "../../src/lib/tar.ts";
import type { TarEntry } from "../../src/lib/tar-header.ts";

const run = promisify(execFile);
const long = `${"deep/".repeat(30)}${"n".repeat(120)}`;
const content = Buffer.from("content of a file, longer than nothing\n".repeat(100));
let folder = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pgkit-tar-"));
  const tree = join(folder, "tree");
  await mkdir(join(tree, "empty"), { recursive: true });
  await mkdir(join(tree, "pg_tblspc"), { recursive: true });
  await mkdir(join(tree, "deep/".repeat(30)), { recursive: true });
  await writeFile(join(tree, "PG_VERSION"), "15\n", { mode: 0o600 });
  await writeFile(join(tree, "nothing"), "");
  await writeFile(join(tree, "block"), Buffer.alloc(512, 7));
  await writeFile(join(tree, long), content);
  await symlink("/srv/space", join(tree, "pg_tblspc/16400"));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

async function archive(format: string, ...args: string[]): Promise<Buffer> {
  const path = join(folder, `${format}.tar`);
  await run("tar", ["-C", join(folder, "tree"), `--format=${format}`, ...args, "-cf", path, "."]);
  return readFile(path);
}

/** In pieces of `size`, as a network gives them. */
async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let offset = 0; offset < bytes.length; offset += size) yield bytes.subarray(offset, offset + size);
}

async function contents(bytes: Uint8Array, size = 4096): Promise<Map<string, { entry: TarEntry; body: string }>> {
  const found = new Map<string, { entry: TarEntry; body: string }>();
  for await (const { entry, body } of readTar(pieces(bytes, size), "base.tar")) {
    found.set(entry.path, { entry, body: (await collect(body)).toString() });
  }
  return found;
}

describe("a tar archive", () => {
  test.each(["ustar", "gnu", "pax", "posix"])(
    "of format %s gives every file, folder and link as tar stored it",
    async (format) => {
      const short = format === "ustar" ? [`--exclude=./deep`] : [];
      for (const size of [1, 511, 513, 100_000]) {
        const found = await contents(await archive(format, ...short), size);
        expect(found.get("./PG_VERSION")).toMatchObject({
          entry: { type: "file", size: 3, mode: 0o600 },
          body: "15\n",
        });
        expect(found.get("./nothing")).toMatchObject({ entry: { type: "file", size: 0 }, body: "" });
        expect(found.get("./block")?.body).toBe("\u0007".repeat(512));
        expect(found.get("./empty")?.entry).toMatchObject({ type: "directory", size: 0, mode: 0o755 });
        expect(found.get("./pg_tblspc/16400")?.entry).toMatchObject({ type: "symlink", linkTarget: "/srv/space" });
        if (format !== "ustar") expect(found.get(`./${long}`)?.body).toBe(content.toString());
      }
    },
  );

  test("splits a long path in ustar's two fields", async () => {
    const found = await contents(await archive("ustar", `--exclude=./${long}`));
    expect(found.has(`./${"deep/".repeat(30).slice(0, -1)}`)).toBe(true);
  });

  test("skips what was not taken, or only in part", async () => {
    const seen: string[] = [];
    for await (const { entry, body } of readTar(pieces(await archive("gnu"), 1000), "base.tar")) {
      seen.push(entry.path);
      if (entry.path.includes("nnn")) for await (const _ of body) break;
    }
    expect(seen).toEqual([...(await contents(await archive("gnu"))).keys()]);
  });

  test("cut anywhere, also between two members, is object-corrupt", async () => {
    const whole = await archive("gnu");
    let lastBlock = whole.length;
    while (whole.subarray(lastBlock - 512, lastBlock).every((byte) => byte === 0)) lastBlock -= 512;
    for (const cut of [0, 100, 512, 1024, 2048, 5000, lastBlock]) {
      await expect(contents(whole.subarray(0, cut)), `cut at ${cut}`).rejects.toMatchObject({ code: "object-corrupt" });
    }
  });

  test("with a flipped bit in a header is object-corrupt", async () => {
    const damaged = Buffer.from(await archive("gnu"));
    damaged[3] = (damaged[3] ?? 0) ^ 1;
    await expect(contents(damaged)).rejects.toMatchObject({ code: "object-corrupt" });
  });

  test.each(["gnu", "pax"])("of format %s holds a file of 9 GiB", async (format) => {
    const tree = join(folder, "large");
    await mkdir(tree, { recursive: true });
    await writeFile(join(tree, "huge"), "");
    await truncate(join(tree, "huge"), 9 * 1024 ** 3);
    const path = join(folder, "large.tar");
    // The header alone is of interest: nine gibibytes of zeros need not be written for it.
    await run("sh", ["-c", `tar -C ${tree} --format=${format} -cf - huge | head -c 65536 > ${path}`]);
    for await (const { entry } of readTar(createReadStream(path), "base.tar")) {
      expect(entry).toMatchObject({ path: "huge", size: 9 * 1024 ** 3 });
      break;
    }
    await rm(tree, { recursive: true });
  });

  test("stops its source when it is left", async () => {
    let stopped = false;
    async function* source() {
      try {
        yield await archive("gnu");
      } finally {
        stopped = true;
      }
    }
    for await (const _ of readTar(source(), "base.tar")) break;
    expect(stopped).toBe(true);
  });
});
