import { readdir, readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type BaseJson, filesOf } from "../backup/base-support.ts";
import {
  newPlace,
  openedNames,
  type Pitr,
  restoreAndOpen,
  restoreRefused,
  startPitr,
  type Written,
} from "./pitr-support.ts";

/** A, the backup, B, and rows 1 to 4, each in a segment of its own. */
let pitr: Pitr;
let backup: BaseJson;
let b: Written;
const rows: Written[] = [];

beforeAll(async () => {
  pitr = await startPitr();
  await pitr.write("A");
  backup = await pitr.backUp();
  b = await pitr.write("B");
  await pitr.storeAll();
  for (const name of ["1", "2", "3", "4"]) {
    rows.push(await pitr.write(name));
    await pitr.storeAll();
  }
}, 300_000);
afterAll(async () => await pitr[Symbol.asyncDispose]());

/** The stored object of the nth segment from the end. */
async function segmentFromEnd(nth: number): Promise<string> {
  const found = await readdir(join(pitr.pgkit.repository, "wal"), { recursive: true });
  const segments = found.filter((path) => /\/[0-9A-F]{24}\.zst$/.test(path)).sort();
  return join(pitr.pgkit.repository, "wal", segments.at(-nth) ?? "");
}

/** Runs `use` while the file is away. */
async function without<T>(path: string, use: () => Promise<T>): Promise<T> {
  await rename(path, `${path}.away`);
  return await use().finally(() => rename(`${path}.away`, path));
}

async function withFlippedBit<T>(path: string, use: () => Promise<T>): Promise<T> {
  const bytes = await readFile(path);
  const changed = Buffer.from(bytes);
  const middle = Math.floor(bytes.length / 2);
  changed[middle] = (changed[middle] ?? 0) ^ 0x10;
  await writeFile(path, changed);
  return await use().finally(() => writeFile(path, bytes));
}

test("a missing segment in the middle: the latest is refused before any download, and never silently short", async () => {
  await without(await segmentFromEnd(2), async () => {
    const { status, stderr, files } = await restoreRefused(pitr, "--start");
    expect([status, files]).toEqual([20, []]);
    expect(stderr).toMatch(/segment 0000000100000000000000\d\d is not in the repository/);
    expect(stderr).toContain(rows[1]?.committedAt);
  });
});

test("with that segment missing a target behind it is refused, one before it is reached", async () => {
  await without(await segmentFromEnd(2), async () => {
    expect((await restoreRefused(pitr, "--start", "--to-lsn", rows[3]?.lsn ?? "")).status).toBe(20);
    expect((await restoreRefused(pitr, "--start", "--to-time", rows[2]?.committedAt ?? "")).status).toBe(20);
    expect((await restoreAndOpen(pitr, "--to-time", b.after)).names).toBe("AB");
    const hinted = /--to-lsn (\S+),/.exec((await restoreRefused(pitr)).stderr)?.[1] ?? "";
    expect((await restoreAndOpen(pitr, "--to-lsn", hinted)).names).toBe("12AB");
  });
});

test("a name that may lie behind the gap ends in an error, not in a server with rows missing", async () => {
  await without(await segmentFromEnd(2), async () => {
    const { status, stderr } = await restoreRefused(pitr, "--start", "--to-name", "behind");
    expect(status, stderr).toBe(20);
    expect(stderr).toContain("recovery ended before the restore point");
  });
});

test("a flipped bit in a stored segment: recovery fails by its name, and nothing is opened", async () => {
  const damaged = await segmentFromEnd(3);
  await withFlippedBit(damaged, async () => {
    const { status, stderr } = await restoreRefused(pitr, "--start");
    expect(status, stderr).toBe(40);
    expect(stderr).toContain(damaged.slice(damaged.indexOf("/wal/") + 1));
  });
});

test("a bit that was flipped before the segment was stored: the end that PostgreSQL takes for the end is not believed", async () => {
  const path = await segmentFromEnd(3);
  const stored = await readFile(path);
  const segment = zstdDecompressSync(stored);
  // In the first record behind the segment's header.
  segment[0x40] = (segment[0x40] ?? 0) ^ 0x10;
  await writeFile(path, zstdCompressSync(segment));
  await using place = await newPlace();
  const ran = await pitr.pgkit
    .run(["restore", "--data-dir", place.dataDir, "--start"])
    .finally(() => writeFile(path, stored));
  expect(ran.status, ran.stderr).toBe(20);
  expect(ran.stderr).toMatch(/recovery ended at .*, and WAL is stored up to/);
  await expect(openedNames(pitr.cluster, place.dataDir)).rejects.toThrow("pg_control");
});

test("a flipped bit in the base backup: the directory never becomes one that starts", async () => {
  const [name = ""] = (await readdir(filesOf(pitr.pgkit, backup))).filter((each) => each.startsWith("base.tar"));
  await withFlippedBit(join(filesOf(pitr.pgkit, backup), name), async () => {
    const { status, stderr, files } = await restoreRefused(pitr, "--start");
    expect(status, stderr).toBe(40);
    expect(files).not.toContain("recovery.signal");
  });
});

test("all WAL of the backup itself missing is refused", async () => {
  const folder = join(pitr.pgkit.repository, "wal");
  await without(folder, async () => {
    const { status, stderr } = await restoreRefused(pitr, "--immediate", "--start");
    expect([status, stderr]).toEqual([20, expect.stringContaining("it needs the WAL from")]);
  });
});

test("with the backup and all WAL whole again everything is there", async () => {
  expect((await restoreAndOpen(pitr)).names).toBe("1234AB");
});
