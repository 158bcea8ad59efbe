import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startServer } from "../../src/postgres/server.ts";
import { archive } from "../backup/base-support.ts";
import { eventually } from "../support/eventually.ts";
import {
  archiveInto,
  newPlace,
  type Pitr,
  restoreAndOpen,
  restoreRefused,
  startPitr,
  type Written,
} from "./pitr-support.ts";

/**
 * A, the backup, B and C on timeline 1; then the disaster: restored to after B and promoted, in the same place, so that
 * timeline 2 goes on from there with D. C is on timeline 1 alone.
 */
let pitr: Pitr;
let place: Awaited<ReturnType<typeof newPlace>>;
let b: Written;
let c: Written;
let dAfter = "";

beforeAll(async () => {
  pitr = await startPitr();
  const { cluster, pgkit } = pitr;
  place = await newPlace();
  await pitr.write("A");
  await pitr.backUp();
  b = await pitr.write("B");
  c = await pitr.write("C");
  await pitr.write("E");
  await pitr.storeAll();
  await cluster.stop();
  await pgkit.json(["restore", "--data-dir", place.dataDir, "--to-time", b.after, "--start"]);
  dAfter = await goOn();
}, 300_000);
afterAll(async () => {
  await place[Symbol.asyncDispose]();
  await pitr[Symbol.asyncDispose]();
});

/** The restored server takes the place of the lost one, archives into the same folder, and writes D. */
async function goOn(): Promise<string> {
  const { cluster, pgkit } = pitr;
  const folder = join(dirname(cluster.dataDir), "archive");
  const { binDir, runAs } = cluster;
  const settings = { archive_mode: "on", archive_command: archiveInto(folder), track_commit_timestamp: "on" };
  const server = await startServer({ binDir, dataDir: place.dataDir, runAs, settings, tcp: cluster.port });
  try {
    await pitr.write("D");
    const { after } = await pitr.write("F");
    await pitr.write("G");
    const wal = await cluster.psql("SELECT pg_walfile_name(pg_switch_wal())");
    await eventually(async () =>
      expect(await readdir(folder)).toEqual(expect.arrayContaining([wal, "00000002.history"])),
    );
    await archive(cluster, pgkit);
    return after;
  } finally {
    await server.stop();
  }
}

test("the promoted server archived its timeline's history, though recovery itself archived nothing", async () => {
  const names = await readdir(join(dirname(pitr.cluster.dataDir), "archive"));
  expect(names).toContain("00000002.history");
});

test("before the switch", async () => {
  const { names, json } = await restoreAndOpen(pitr, "--to-time", b.committedAt);
  expect([names, json.reached.timeline]).toEqual(["AB", 3]);
});

test("after the switch, on the newest timeline", async () => {
  expect((await restoreAndOpen(pitr, "--to-time", dAfter)).names).toBe("ABDF");
  expect((await restoreAndOpen(pitr)).names).toBe("ABDFG");
});

test("what is on the abandoned timeline alone is asked back, and restored when that is named", async () => {
  const { status, stderr, files } = await restoreRefused(pitr, "--to-time", c.after, "--start");
  expect([status, files]).toEqual([2, []]);
  expect(stderr).toContain("--timeline 1 for what was written there");
  expect((await restoreAndOpen(pitr, "--to-time", c.after, "--timeline", "1")).names).toBe("ABC");
  expect((await restoreAndOpen(pitr, "--timeline", "1")).names).toBe("ABCE");
  expect((await restoreAndOpen(pitr, "--timeline", "current")).names).toBe("ABCE");
});

test("a position behind the switch of the abandoned timeline is asked back as well", async () => {
  expect((await restoreRefused(pitr, "--to-lsn", c.lsn, "--dry-run")).status).toBe(2);
  expect((await restoreAndOpen(pitr, "--to-lsn", c.lsn, "--timeline", "1")).names).toBe("ABC");
});
