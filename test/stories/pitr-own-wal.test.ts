import { execFile } from "node:child_process";
import { chmod, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { parseLsn, parseSegmentName, walFileKind } from "../../src/lib/lsn.ts";
import { startServer } from "../../src/postgres/server.ts";
import { hasOwnSegment } from "../../src/wal/own-segment.ts";
import { readSegmentHeader } from "../../src/wal/segment.ts";
import { type Standby, startStandby } from "../backup/base-support.ts";
import { eventually } from "../support/eventually.ts";
import { pgkitFor } from "../support/pgkit.ts";
import { newPlace, openedNames, type Pitr, restoreAndOpen, restoreRefused, startPitr } from "./pitr-support.ts";

test("a backup with its WAL inside needs no archive, and goes on with one that begins behind it", async () => {
  await using pitr = await startPitr();
  const { pgkit } = pitr;
  await pitr.write("A");
  const { backups } = await pgkit.json<{ backups: { id: string }[] }>(["backup", "base", "--with-wal"]);
  expect((await restoreAndOpen(pitr)).names).toBe("A");
  expect((await restoreAndOpen(pitr, "--immediate")).names).toBe("A");
  expect((await restoreRefused(pitr, "--to-time", "-1ms")).status).toBe(20);
  const b = await pitr.write("B");
  await pitr.write("C");
  await pitr.storeAll();
  const { names, json } = await restoreAndOpen(pitr, "--to-time", b.after);
  expect([names, json.backup]).toEqual(["AB", backups[0]?.id]);
}, 300_000);

test("a backup of a standby becomes a server of its own at the target", async () => {
  await using pitr = await startPitr({ settings: { full_page_writes: "on" } });
  await using standby = await startStandby(pitr.cluster);
  await pitr.write("A");
  await caughtUp(pitr, standby);
  await using pgkit = await pgkitFor({ shared: { cluster: pitr.cluster } });
  const args = ["backup", "base", "--with-wal", "--standby", standby.url];
  await pgkit.json(args);
  const { names, leftovers } = await restoreAndOpen({ ...pitr, pgkit }, "--immediate");
  expect([names, leftovers]).toEqual(["A", []]);
}, 300_000);

// PostgreSQL's own `immediate` compares a record that ends no transaction with the one behind it, and here is none.
test.each([
  ["a record in the middle of a segment", "SELECT pg_create_restore_point('last')"],
  ["the end of a segment", "SELECT pg_switch_wal()"],
])(
  "a backup of a standby that has replayed all there is, up to %s, is restored and verified",
  async (_, last) => {
    await using pitr = await startPitr({ settings: { full_page_writes: "on" } });
    await using standby = await startStandby(pitr.cluster);
    await pitr.write("A");
    await pitr.cluster.psql(last);
    await caughtUp(pitr, standby);
    await using pgkit = await pgkitFor({ shared: { cluster: pitr.cluster } });
    const { backups } = await pgkit.json<{ backups: { id: string; wal: { stopLsn: string } }[] }>([
      ...["backup", "base", "--with-wal", "--standby", standby.url],
    ]);
    const { names, leftovers } = await restoreAndOpen({ ...pitr, pgkit }, "--immediate");
    expect([names, leftovers]).toEqual(["A", []]);
    await using place = await newPlace();
    const shutDown = ["restore", "--data-dir", place.dataDir, "--start", "--immediate", "--action", "shutdown"];
    const { reached } = await pgkit.json<{ reached: { lsn: string } }>(shutDown);
    expect(parseLsn(reached.lsn)).toBe(parseLsn(backups[0]?.wal.stopLsn ?? ""));
    const { results } = await pgkit.json<{ results: { ok: boolean; problems: string[] }[] }>(["verify", "--deep"]);
    expect(results).toEqual([expect.objectContaining({ ok: true, problems: [] })]);
  },
  180_000,
);

test("a backup of a standby that ends with a segment is restored from an archive that ends there, too", async () => {
  await using pitr = await startPitr({ settings: { full_page_writes: "on" } });
  await using standby = await startStandby(pitr.cluster);
  await pitr.write("A");
  await pitr.cluster.psql("SELECT pg_switch_wal()");
  await caughtUp(pitr, standby);
  await pitr.backUp("--standby", standby.url);
  const { names, leftovers } = await restoreAndOpen(pitr, "--immediate");
  expect([names, leftovers]).toEqual(["A", []]);
}, 300_000);

async function caughtUp({ cluster }: Pitr, standby: Standby): Promise<void> {
  const lsn = await cluster.psql("SELECT pg_current_wal_lsn()");
  await eventually(async () => {
    if ((await standby.psql(`SELECT pg_last_wal_replay_lsn() >= '${lsn}'`)) !== "t") throw new Error("it lags");
  });
}

test("a later server recovers from it by pgkit wal fetch, though the archive begins behind the backup", async () => {
  await using pitr = await startPitr();
  const { cluster, pgkit } = pitr;
  await pitr.write("A");
  await pgkit.json(["backup", "base", "--with-wal"]);
  const b = await pitr.write("B");
  await pitr.write("C");
  await pitr.storeAll();
  await dropSegmentsOfBackup(pitr);
  await using place = await newPlace();
  const command = await serverCommand(pitr, dirname(place.dataDir));
  const yaml = `${pgkit.yaml}    archive: { command: ${JSON.stringify(command)} }\n`;
  const args = ["restore", "--data-dir", place.dataDir, "--to-time", b.after];
  await pgkit.json(args, { files: { "pgkit.yaml": yaml } });
  await expectOnlyWholeSegments(place.dataDir);
  const { binDir, runAs } = cluster;
  const server = await startServer({ binDir, dataDir: place.dataDir, runAs, readyWithinMs: 120_000 });
  await server.stop();
  expect(await openedNames(cluster, place.dataDir)).toBe("AB");
}, 300_000);

/** A segment that ended earlier would end recovery short. */
async function expectOnlyWholeSegments(dataDir: string): Promise<void> {
  const [name = ""] = (await readdir(join(dataDir, "pg_wal"))).filter((each) => walFileKind(each) === "segment");
  const path = join(dataDir, "pg_wal", name);
  const whole = await readFile(path);
  const { systemId, segmentBytes } = readSegmentHeader(whole);
  const has = () => hasOwnSegment(dataDir, name, { systemId, segmentBytes });
  expect(await has()).toBe(true);
  await writeFile(path, Buffer.concat([whole.subarray(0, 100)], whole.length));
  expect(await has()).toBe(false);
  await writeFile(path, whole);
}

/** As if archiving had begun after the backup. */
async function dropSegmentsOfBackup({ pgkit }: Pitr): Promise<void> {
  const { backups } = await pgkit.json<{ backups: { wal: { startLsn: string; stopLsn: string } }[] }>(["list"]);
  const { startLsn = "", stopLsn = "" } = backups[0]?.wal ?? {};
  const wal = join(pgkit.repository, "wal");
  const inside = (name: string) => {
    const place = parseSegmentName(basename(name).slice(0, 24), 16 * 1024 * 1024);
    return place !== undefined && place.startLsn < parseLsn(stopLsn);
  };
  const dropped = (await readdir(wal, { recursive: true })).filter(inside);
  expect(dropped.length, startLsn).toBeGreaterThan(0);
  for (const name of dropped) await rm(join(wal, name));
}

/** What the server of the tests runs pgkit by. */
async function serverCommand({ pgkit }: Pitr, folder: string): Promise<string> {
  const config = join(folder, "pgkit.yaml");
  await writeFile(config, pgkit.yaml);
  await chmod(config, 0o644);
  await promisify(execFile)("chmod", ["-R", "a+rX", pgkit.repository]);
  return `${process.execPath} ${join(import.meta.dirname, "..", "support", "pgkit-process.ts")} --config ${config}`;
}
