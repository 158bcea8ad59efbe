import { execFile } from "node:child_process";
import { chmod, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import pg from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startServer } from "../../src/postgres/server.ts";
import type { BaseJson } from "../backup/base-support.ts";
import { eventually } from "../support/eventually.ts";
import { newPlace, openedNames, type Pitr, restoreRefused, startPitr, type Written } from "./pitr-support.ts";

const run = promisify(execFile);

/** A, the backup of a server with a tablespace, B and C; its configuration file is elsewhere, as with Debian's packages. */
let pitr: Pitr;
let backup: BaseJson;
let b: Written;

beforeAll(async () => {
  pitr = await startPitr({ settings: { max_connections: "123", max_prepared_transactions: "7" } });
  const { cluster } = pitr;
  const space = join(dirname(cluster.dataDir), "space");
  await mkdir(space);
  await chownTo(space);
  await cluster.psql(`CREATE TABLESPACE other LOCATION '${space}'`);
  await cluster.psql("CREATE TABLE elsewhere TABLESPACE other AS SELECT 42 AS answer");
  await rm(join(cluster.dataDir, "postgresql.conf"));
  await pitr.write("A");
  backup = await pitr.backUp();
  b = await pitr.write("B");
  await pitr.write("C");
  await pitr.storeAll();
}, 300_000);
afterAll(async () => await pitr[Symbol.asyncDispose]());

async function chownTo(path: string): Promise<void> {
  const { runAs } = pitr.cluster;
  if (runAs !== undefined) await run("chown", ["-R", `${runAs.uid}:${runAs.gid}`, path]);
}

/** A configuration that a plain server needs, where the backup has none. */
async function configure(dataDir: string): Promise<void> {
  await writeFile(join(dataDir, "postgresql.conf"), "max_connections = 123\nmax_prepared_transactions = 7\n");
  await chownTo(join(dataDir, "postgresql.conf"));
}

test("a backup without a configuration file is recovered with what pg_control knows, its tablespace elsewhere", async () => {
  await using place = await newPlace();
  const space = join(dirname(place.dataDir), "moved");
  const args = ["restore", "--data-dir", place.dataDir, "--tablespace", `other=${space}`, "--start"];
  const { reached } = await pitr.pgkit.json<{ reached: { lsn: string } }>(args);
  expect(reached.lsn).toMatch(/^0\//);
  expect(await readdir(space)).toHaveLength(1);
  await configure(place.dataDir);
  expect(await openedNames(pitr.cluster, place.dataDir)).toBe("ABC");
});

test("a tablespace whose place is taken is refused before anything is written", async () => {
  const { status, stderr, files } = await restoreRefused(pitr, "--start");
  expect([status, files], stderr).toEqual([21, []]);
  expect(stderr).toContain("--tablespace");
  expect((await restoreRefused(pitr, "--tablespace", "wrong=/x")).status).toBe(2);
});

test("--action pause leaves a server to look at, until it is told to stop", async () => {
  await using place = await newPlace();
  const space = join(dirname(place.dataDir), "moved");
  const args = ["--to-time", b.after, "--action", "pause", "--start", "--tablespace", `other=${space}`, "--json"];
  let stop: (name: string) => void = () => undefined;
  const restoring = pitr.pgkit.run(["restore", "--data-dir", place.dataDir, ...args], {
    onStart: ({ signal }) => {
      stop = signal;
    },
  });
  const names = await eventually(() => namesInRunning(place.dataDir), 60_000);
  stop("SIGINT");
  const { stdout, stderr } = await restoring;
  expect(names).toBe("AB");
  const reached = { time: b.committedAt, timeline: 1, lsn: expect.stringMatching(/^0\//) };
  expect(JSON.parse(stdout), stderr).toMatchObject({ recovery: "done", action: "pause", reached });
  expect(await readdir(place.dataDir)).not.toContain("postmaster.pid");
});

/** Asks the server that runs there, once it is paused. */
async function namesInRunning(dataDir: string): Promise<string> {
  const lines = (await readFile(join(dataDir, "postmaster.pid"), "utf8")).split("\n");
  const { superuser: user, password } = pitr.cluster;
  const client = new pg.Client({ host: lines[4], port: Number(lines[3]), user, password, database: "postgres" });
  client.on("error", () => undefined);
  await client.connect();
  try {
    const { rows } = await client.query(
      `SELECT pg_get_wal_replay_pause_state() AS state, (SELECT string_agg(name, '' ORDER BY name) FROM written) AS names`,
    );
    expect(rows[0].state).toBe("paused");
    return rows[0].names;
  } finally {
    await client.end();
  }
}

test("--action shutdown stops at the target, and recovery can go on from there", async () => {
  await using place = await newPlace();
  const space = join(dirname(place.dataDir), "moved");
  const where = ["restore", "--data-dir", place.dataDir, "--tablespace", `other=${space}`];
  const { reached } = await pitr.pgkit.json<{ reached: { lsn: string; time?: string } }>([
    ...[...where, "--to-lsn", b.lsn, "--action", "shutdown", "--start"],
  ]);
  expect(lsnOf(reached.lsn)).toBeGreaterThanOrEqual(lsnOf(b.lsn));
  expect(reached.time).toBe(b.committedAt);
  expect(await readdir(place.dataDir)).toContain("recovery.signal");
  expect(await readFile(join(place.dataDir, "postgresql.auto.conf"), "utf8")).toContain("recovery_target_lsn");
});

function lsnOf(text: string): number {
  const [high = "0", low = "0"] = text.split("/");
  return Number.parseInt(high, 16) * 2 ** 32 + Number.parseInt(low, 16);
}

test("without --start a server that is started later recovers by itself, with pgkit wal fetch", async () => {
  await using place = await newPlace();
  const space = join(dirname(place.dataDir), "moved");
  const config = join(dirname(place.dataDir), "pgkit.yaml");
  await writeFile(config, pitr.pgkit.yaml);
  await chmod(config, 0o644);
  await run("chmod", ["-R", "a+rX", pitr.pgkit.repository]);
  const program = join(import.meta.dirname, "..", "support", "pgkit-process.ts");
  const command = `${process.execPath} ${program} --config ${config}`;
  const yaml = `${pitr.pgkit.yaml}    archive: { command: ${JSON.stringify(command)} }\n`;
  const args = ["restore", "--data-dir", place.dataDir, "--tablespace", `other=${space}`, "--to-time", b.after];
  const { recovery } = await pitr.pgkit.json<{ recovery: string }>(args, { files: { "pgkit.yaml": yaml } });
  expect(recovery).toBe("pending");
  await configure(place.dataDir);
  const { binDir, runAs, superuser: user, password } = pitr.cluster;
  const server = await startServer({ binDir, dataDir: place.dataDir, runAs, readyWithinMs: 120_000 });
  try {
    const client = new pg.Client({ host: server.socketDir, port: 5432, user, password, database: "postgres" });
    await client.connect();
    const names = await eventually(async () => {
      const { rows } = await client.query(
        "SELECT pg_is_in_recovery() AS busy, (SELECT string_agg(name, '' ORDER BY name) FROM written) AS names",
      );
      expect(rows[0].busy).toBe(false);
      return rows[0].names;
    }, 300_000);
    await client.end();
    expect(names).toBe("AB");
  } finally {
    await server.stop();
  }
});

test("a running server and another system's directory are refused; --delta restores over the same", async () => {
  await using place = await newPlace();
  const space = ["--tablespace", `other=${join(dirname(place.dataDir), "moved")}`];
  const { cluster, pgkit } = pitr;
  const over = ["restore", "--data-dir", cluster.dataDir, "--delta", "--yes"];
  expect(await pgkit.run(over)).toMatchObject({ status: 21, stderr: expect.stringContaining("a server runs on") });
  await pgkit.json(["restore", "--data-dir", place.dataDir, "--start", ...space, "--to-time", b.after]);
  expect(await pgkit.run(["restore", "--data-dir", place.dataDir, ...space])).toMatchObject({ status: 21 });
  expect(await pgkit.run(["restore", "--data-dir", place.dataDir, "--delta", ...space])).toMatchObject({
    status: 2,
    stderr: expect.stringContaining("--yes"),
  });
  await pgkit.json(["restore", "--data-dir", place.dataDir, "--delta", "--yes", "--start", ...space]);
  await configure(place.dataDir);
  expect(await openedNames(cluster, place.dataDir)).toBe("ABC");
});

test("without the server's programs of the backup's major --start is refused", async () => {
  const path = join(pitr.pgkit.repository, "backups", "shared", `${backup.id}.json`);
  const text = await readFile(path, "utf8");
  await writeFile(path, text.replace(/"version": "\d+/, '"version": "12'));
  const { status, stderr, files } = await restoreRefused(pitr, "--start").finally(() => writeFile(path, text));
  expect([status, files]).toEqual([30, []]);
  expect(stderr).toContain("PostgreSQL 12 are not installed");
});

test("a copy that is to archive nothing has archiving switched off, for good", async () => {
  await using place = await newPlace();
  const space = ["--tablespace", `other=${join(dirname(place.dataDir), "moved")}`];
  await pitr.pgkit.json(["restore", "--data-dir", place.dataDir, "--start", "--without-archiving", ...space]);
  expect(await readFile(join(place.dataDir, "postgresql.auto.conf"), "utf8")).toContain("archive_mode = 'off'\n");
  const status = await readdir(join(place.dataDir, "pg_wal", "archive_status"));
  expect(status.filter((name) => name.endsWith(".ready"))).toEqual([]);
});
