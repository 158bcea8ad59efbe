import { spawn } from "node:child_process";
import { chmod, chown, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, it, vi } from "vitest";
import { unprivilegedUser } from "../../src/postgres/run-as.ts";
import type { Cluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { type Pitr, startPitr, type Written } from "./pitr-support.ts";

/** What a restore of a database to a moment says. */
interface RestoredAt {
  as: string;
  backup: string;
  keptAs?: string;
  schema?: string;
  reached: { time: string; lsn: string };
  rows: number;
  contentChecked: boolean;
  writtenBytes: number;
  wholeBytes: number;
}

const loaded = ["load_1", "load_2", "load_3", "load_4"];
const idle = ["idle_1", "idle_2", "idle_3", "idle_4", "idle_5", "idle_6"];
let pitr: Pitr;
let cluster: Cluster;
let folder = "";
let scratch = "";
const moments: Record<string, Written> = {};
const fingerprints: Record<string, string> = {};
const load: ReturnType<typeof startLoad>[] = [];
const at = (name: string): string => moments[name]?.after ?? "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pgkit-at-"));
  await chmod(folder, 0o711);
  pitr = await startPitr({
    settings: { full_page_writes: "on", autovacuum_naptime: "1s", max_prepared_transactions: "5" },
  });
  ({ cluster } = pitr);
  await makeDatabases();
  for (const database of loaded) load.push(startLoad(database));
  await pitr.backUp();
  await history();
  await pitr.storeAll();
}, 240_000);

afterAll(async () => {
  for (const each of load) each.kill();
  await Promise.all(load.map((each) => each.ended));
  await pitr?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

beforeEach(async () => {
  scratch = await mkdtemp(join(folder, "tmp-"));
  await chmod(scratch, 0o711);
  vi.stubEnv("TMPDIR", scratch);
});
afterEach(() => vi.unstubAllEnvs());

async function makeDatabases(): Promise<void> {
  const tablespace = join(folder, "tablespace");
  const runAs = await unprivilegedUser();
  await mkdir(tablespace, { mode: 0o700 });
  if (runAs) await chown(tablespace, runAs.uid, runAs.gid);
  await cluster.psql("CREATE ROLE app LOGIN PASSWORD 'of the app'");
  await cluster.psql(`CREATE TABLESPACE elsewhere LOCATION '${tablespace}'`);
  for (const name of [...loaded, ...idle, "app", "first", "second", "reborn"])
    await cluster.psql(`CREATE DATABASE ${name}`);
  await cluster.psql("CREATE DATABASE idle_elsewhere TABLESPACE elsewhere");
  await Promise.all(loaded.map((name) => cluster.program("pgbench", ["-i", "-q", "-s", "1"], name)));
  for (const name of [...idle, "idle_elsewhere", "first", "second", "reborn"]) {
    await cluster.psql(
      `CREATE TABLE t AS SELECT g AS a, '${name}' || repeat('x', 400) AS b FROM generate_series(1, 5000) g`,
      name,
    );
  }
  await cluster.psql(
    `ALTER DATABASE app OWNER TO app;
     CREATE TABLE notes (id serial PRIMARY KEY, text text, at timestamptz DEFAULT now(), price float8 DEFAULT random());
     CREATE INDEX ON notes (text);
     CREATE TABLE far (id int PRIMARY KEY, b bytea) TABLESPACE elsewhere;
     CREATE TABLE lost (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, kind text CHECK (kind <> ''));
     CREATE TABLE parts (id int, day date) PARTITION BY RANGE (id);
     CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (1) TO (1000);
     CREATE UNLOGGED TABLE cache AS SELECT 1 AS a;
     INSERT INTO notes (text) SELECT md5(g::text) FROM generate_series(1, 5000) g;
     INSERT INTO far SELECT g, decode(md5(g::text), 'hex') FROM generate_series(1, 1000) g;
     INSERT INTO lost (kind) SELECT 'k' || g FROM generate_series(1, 100) g;
     INSERT INTO parts SELECT g, '2026-01-01'::date + g FROM generate_series(1, 500) g;
     SELECT lo_from_bytea(0, 'a large object');
     ALTER TABLE notes OWNER TO app; ALTER TABLE lost OWNER TO app`,
    "app",
  );
}

/** What happens after the base backup; a moment before each disaster. */
async function history(): Promise<void> {
  await cluster.psql(
    "INSERT INTO notes (text) VALUES ('after the backup'); UPDATE far SET b = 'new' WHERE id < 100",
    "app",
  );
  await cluster.psql("UPDATE t SET b = 'changed' WHERE a % 7 = 0", "idle_1");
  await cluster.psql("VACUUM t", "idle_2");
  await cluster.psql("CHECKPOINT");
  await cluster.psql("ALTER DATABASE first RENAME TO renamed");
  await remember("before the delete", "app");
  // Its lock is on the table when recovery ends; what it wrote is not.
  await cluster.psql(
    "BEGIN; LOCK TABLE far; INSERT INTO far VALUES (5000, 'undecided'); PREPARE TRANSACTION 'open'",
    "app",
  );
  moments["before the delete"] = await pitr.write("before the delete");
  await cluster.psql("ROLLBACK PREPARED 'open'", "app");
  await cluster.psql("DELETE FROM notes WHERE id <= 4000; DROP TABLE lost; UPDATE parts SET day = NULL", "app");
  await cluster.psql("ALTER DATABASE second RENAME TO away");
  await cluster.psql("ALTER DATABASE renamed RENAME TO second");
  await cluster.psql("CREATE DATABASE fresh TEMPLATE idle_3");
  await cluster.psql("CREATE TABLE new AS SELECT 42 AS a", "fresh");
  await cluster.psql("DROP DATABASE reborn");
  await cluster.psql("CREATE DATABASE reborn");
  await cluster.psql("CREATE TABLE t AS SELECT 'born again' AS b", "reborn");
  await remember("late", "second");
  moments["late"] = await pitr.write("late");
  await cluster.psql("ALTER DATABASE second RENAME TO first");
  await cluster.psql("ALTER DATABASE away RENAME TO second");
  await cluster.psql("DROP TABLE t", "reborn");
  await pitr.write("the end");
}

async function remember(moment: string, database: string): Promise<void> {
  fingerprints[`${moment}/${database}`] = await fingerprint(database);
}

/** The tables of a database with all of their rows; the columns of each in their order. */
async function fingerprint(database: string): Promise<string> {
  const tables = await cluster.psql(
    `SELECT format('%I.%I', schemaname, tablename) FROM pg_tables t JOIN pg_class c ON c.oid = format('%I.%I', schemaname, tablename)::regclass
     WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema' AND relpersistence = 'p' ORDER BY 1`,
    database,
  );
  const rows = tables
    .split("\n")
    .filter(Boolean)
    .map(
      (name) => `SELECT '${name} ' || count(*) || ' ' || md5(string_agg(r::text, ',' ORDER BY r::text)) FROM ${name} r`,
    );
  return cluster.psql(rows.join(" UNION ALL ") || "SELECT 'no tables'", database);
}

/** Ends when it is told to; an error of any transaction would end it before. */
function startLoad(database: string) {
  const { host, port, superuser, password, binDir } = cluster;
  const child = spawn(join(binDir, "pgbench"), ["-n", "-c", "1", "-T", "600", "-R", "40", "-M", "prepared", database], {
    env: { PGHOST: host, PGPORT: String(port), PGUSER: superuser, PGPASSWORD: password },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (chunk) => (said += chunk));
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  return { kill: () => child.kill("SIGTERM"), ended, running: () => child.exitCode === null, said: () => said };
}

async function historyRows(): Promise<number[]> {
  const counts = await Promise.all(loaded.map((name) => cluster.psql("SELECT count(*) FROM pgbench_history", name)));
  return counts.map(Number);
}

async function databases(): Promise<string[]> {
  return (await cluster.psql("SELECT datname FROM pg_database ORDER BY 1")).split("\n");
}

async function restore(...args: string[]): Promise<RestoredAt & { stderr: string }> {
  const ran = await pitr.pgkit.run(["restore", ...args, "--json"]);
  expect(ran.status, `${ran.stderr}${ran.stdout}`).toBe(0);
  return { ...JSON.parse(ran.stdout), stderr: ran.stderr };
}

it("comes back beside the live one, while ten other databases are at work or idle, and are not touched", {
  timeout: 300_000,
}, async () => {
  const before = await Promise.all(idle.map(fingerprint));
  const [live, rows] = [await fingerprint("app"), await historyRows()];
  const restored = await restore("app", "--to-time", at("before the delete"));
  expect(restored).toMatchObject({
    as: expect.stringMatching(/^app_at_\d{8}t\d{6}z$/),
    contentChecked: true,
  });
  // Of whichever database's transaction came last before that moment.
  expect(restored.reached.time >= (moments["before the delete"]?.committedAt ?? "9")).toBe(true);
  expect(restored.reached.time <= at("before the delete")).toBe(true);
  expect(restored.stderr).not.toContain("once more");
  expect(await fingerprint(restored.as)).toBe(fingerprints["before the delete/app"]);
  expect(await cluster.psql("SELECT convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata", restored.as)).toBe(
    "a large object",
  );
  expect(await cluster.psql("SELECT nextval('notes_id_seq') > 5001, count(*) FROM cache", restored.as)).toBe("t|0");
  expect(await Promise.all(idle.map(fingerprint))).toEqual(before);
  expect(await fingerprint("app")).toBe(live);
  const more = await historyRows();
  for (const [index, each] of load.entries()) {
    expect(each.running(), each.said()).toBe(true);
    expect(more[index]).toBeGreaterThan(rows[index] ?? 0);
  }
  // Measured: 31 of 217 MiB; most of it are the templates and the shared catalogs.
  expect(restored.writtenBytes).toBeLessThan(restored.wholeBytes / 4);
  expect(await readdir(scratch)).toEqual([]);
  await cluster.psql(`DROP DATABASE ${restored.as}`);
});

it("takes the place of the live one, which is kept", { timeout: 300_000 }, async () => {
  const live = await fingerprint("app");
  const { keptAs = "", as } = await restore("app", "--to-time", at("before the delete"), "--replace", "--yes");
  expect([as, await fingerprint("app")]).toEqual(["app", fingerprints["before the delete/app"]]);
  expect(await fingerprint(keptAs)).toBe(live);
  await cluster.psql("DROP DATABASE app");
  await cluster.psql(`ALTER DATABASE ${keptAs} RENAME TO app`);
});

it("gives single tables back beside the live ones, with indexes, sequences and partitions", {
  timeout: 300_000,
}, async () => {
  const live = await fingerprint("app");
  const tables = ["--table", "public.lost", "--table", "notes", "--table", "parts"];
  const { schema = "", as } = await restore("app", "--to-time", at("before the delete"), ...tables);
  expect(as).toBe("app");
  const ask = (sql: string) => cluster.psql(sql, "app");
  expect(await ask(`SELECT count(*) FROM ${schema}.lost`)).toBe("100");
  expect(await ask(`SELECT count(*), max(text) FILTER (WHERE id = 5001) FROM ${schema}.notes`)).toBe(
    "5001|after the backup",
  );
  expect(await ask(`SELECT count(day) FROM ${schema}.parts`)).toBe("500");
  expect(await ask(`SELECT count(*) FROM pg_indexes WHERE schemaname = '${schema}'`)).toBe("3");
  expect(await ask(`INSERT INTO ${schema}.lost (kind) VALUES ('next') RETURNING id`)).toBe("101");
  expect(await ask(`SET ROLE app; SELECT count(*) FROM ${schema}.notes`)).toBe("5001");
  const again = await pitr.pgkit.run(["restore", "app", "--to-time", at("before the delete"), ...tables]);
  expect(again).toMatchObject({ status: 21, stderr: expect.stringContaining(`has a schema ${schema} already`) });
  await ask(`DROP SCHEMA ${schema} CASCADE`);
  expect(await fingerprint("app")).toBe(live);
});

it("is found by the name it had then, and that takes a second recovery where nothing told before", {
  timeout: 300_000,
}, async () => {
  // What is called second now was away then, and the other way round.
  const then = await restore("second", "--to-time", at("late"), "--as", "back_then");
  expect(await fingerprint("back_then")).toBe(fingerprints["late/second"]);
  expect(await cluster.psql("SELECT DISTINCT left(b, 5) FROM t", "back_then")).toBe("first");
  expect(then.stderr).toMatch(
    /second was called otherwise when base-.* was taken: the recovery is done once more, with the files of that one/,
  );
  expect(then.writtenBytes).toBeLessThan(then.wholeBytes / 2);
  const renamed = await restore("renamed", "--to-time", at("before the delete"), "--as", "renamed_then");
  expect(await cluster.psql("SELECT DISTINCT left(b, 5) FROM t", "renamed_then")).toBe("first");
  // Neither the backup nor the live server know the name: all is written at once.
  expect(renamed.writtenBytes).toBeGreaterThan(renamed.wholeBytes * 0.8);
  for (const name of ["back_then", "renamed_then"]) await cluster.psql(`DROP DATABASE ${name}`);
});

it("comes back though it was made after the base backup, or made anew", { timeout: 300_000 }, async () => {
  await restore("fresh", "--to-time", at("late"), "--as", "fresh_then");
  expect(await cluster.psql("SELECT a FROM new", "fresh_then")).toBe("42");
  expect(await cluster.psql("SELECT count(*), sum(length(b)) FROM t", "fresh_then")).toBe(
    await cluster.psql("SELECT count(*), sum(length(b)) FROM t", "idle_3"),
  );
  const { stderr } = await restore("reborn", "--to-time", at("late"), "--as", "reborn_then");
  expect(await cluster.psql("SELECT b FROM t", "reborn_then")).toBe("born again");
  expect(stderr).toMatch(/reborn was not there yet when .* was taken: .* with the files of all databases/);
  for (const name of ["fresh_then", "reborn_then"]) await cluster.psql(`DROP DATABASE ${name}`);
});

it("is refused before anything is fetched where it cannot be, and changes nothing", { timeout: 300_000 }, async () => {
  const before = await databases();
  const moment = ["--to-time", at("before the delete")];
  for (const [args, status, says] of [
    [["app", ...moment, "--as", "idle_1"], 21, /database idle_1 exists/],
    [["app", ...moment, "--as", "x".repeat(64)], 2, /longer than PostgreSQL's 63 bytes/],
    [["never", ...moment, "--replace"], 10, /no database never/],
    [["app", "--to-time", "+1h"], 20, /latest/],
    [["app", ...moment, "--action", "pause"], 2, /--action goes with --data-dir/],
    [["app", "--whole"], 2, /--whole goes with --to-time/],
    [["app", ...moment, "--schema-only"], 2, /logical backup/],
  ] as const) {
    const ran = await pitr.pgkit.run(["restore", ...args]);
    expect([ran.status, ran.stderr.includes("recover shared")], `${args} ${ran.stderr}`).toEqual([status, false]);
    expect(ran.stderr).toMatch(says);
  }
  const never = await pitr.pgkit.run(["restore", "fresh", ...moment]);
  expect(never).toMatchObject({
    status: 10,
    stderr: expect.stringMatching(/no database fresh .* at that moment[\s\S]*idle_1/),
  });
  expect(await databases()).toEqual(before);
  await eventually(async () => expect(await readdir(scratch)).toEqual([]));
});

it("refuses to recover over the folder of a tablespace that was made after the backup, which recovery would empty", {
  timeout: 300_000,
}, async () => {
  const later = join(folder, "later");
  const runAs = await unprivilegedUser();
  await mkdir(later, { mode: 0o700 });
  if (runAs) await chown(later, runAs.uid, runAs.gid);
  await cluster.psql(`CREATE TABLESPACE later LOCATION '${later}'`);
  await cluster.psql("CREATE TABLE in_it (a int) TABLESPACE later; INSERT INTO in_it VALUES (1)", "idle_4");
  const { after } = await pitr.write("with a tablespace");
  await pitr.write("after it");
  await pitr.storeAll();
  const ran = await pitr.pgkit.run(["restore", "app", "--to-time", after, "--as", "back"]);
  expect(ran).toMatchObject({
    status: 21,
    stderr: expect.stringMatching(/tablespace later .* was made after base-.*another machine/s),
  });
  expect(await cluster.psql("CHECKPOINT; SELECT a FROM in_it", "idle_4")).toBe("1");
  expect(await readdir(scratch)).toEqual([]);
});
