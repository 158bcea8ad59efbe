import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { type Pgkit, pgkitFor } from "../support/pgkit.ts";
import { relocatedPrograms } from "../support/relocated.ts";

let cluster: Cluster;
let pgkit: Pgkit;

beforeAll(async () => {
  cluster = await startCluster();
  pgkit = await pgkitFor({
    it: { cluster },
    parts: { cluster, settings: ["wholeBelow: 1"] },
  });
  await cluster.psql("CREATE DATABASE app");
  await cluster.psql(
    "CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE TABLE t AS SELECT 'a=>1'::hstore AS h",
    "app",
  );
});
afterAll(async () => {
  await pgkit?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});

async function databases(of = cluster): Promise<string[]> {
  return (await of.psql("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1")).split("\n");
}

it("timeouts and read-only defaults of role and database stop neither a backup nor a restore", async () => {
  await cluster.psql("CREATE ROLE boss SUPERUSER LOGIN PASSWORD 'of the boss'");
  await cluster.psql("CREATE DATABASE slow");
  const tooShort = [
    "statement_timeout = '300ms'",
    "lock_timeout = '100ms'",
    "idle_in_transaction_session_timeout = '200ms'",
    "idle_session_timeout = '150ms'",
  ];
  if (cluster.major >= 17) tooShort.push("transaction_timeout = '400ms'");
  // This one last: from then on it hinders us, too.
  const hindering = [...tooShort, "default_transaction_read_only = on"];
  await cluster.psql(
    `CREATE FUNCTION slow(int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN true; END $$;
     CREATE TABLE t (a int CHECK (slow(a))); INSERT INTO t SELECT generate_series(1, 25);
     CREATE INDEX ON t ((slow(a)))`,
    "slow",
  );
  for (const setting of hindering)
    await cluster.psql(
      `ALTER ROLE boss SET ${setting}; ALTER DATABASE slow SET ${setting}; ALTER DATABASE postgres SET ${setting}`,
    );
  const user = { name: "boss", password: "of the boss" };
  await using boss = await pgkitFor({ it: { cluster, user }, parts: { cluster, user, settings: ["wholeBelow: 1"] } });
  // The backup has to wait for a lock, longer than any of the timeouts.
  const blocker = await cluster.connect("slow");
  await blocker.query(
    "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0; SET idle_session_timeout = 0",
  );
  await blocker.query(cluster.major < 17 ? "SELECT" : "SET transaction_timeout = 0");
  await blocker.query("BEGIN READ WRITE; LOCK TABLE t IN ACCESS EXCLUSIVE MODE");
  const backups = Promise.all(["it", "parts"].map((instance) => boss.backup("slow", instance)));
  await blocker.query("SELECT pg_sleep(1.5)");
  await blocker.query("COMMIT");
  await blocker.end();
  await backups;
  for (const instance of ["it", "parts"]) {
    await boss.json(["restore", "slow", "--instance", instance, "--as", `slow ${instance}`]);
    expect(await cluster.psql("SHOW statement_timeout", `slow ${instance}`)).toBe("300ms");
  }
  for (const { 0: name = "" } of hindering.map((setting) => setting.split(" ")))
    await cluster.psql(`SET transaction_read_only = off; ALTER DATABASE postgres RESET ${name}`);
  for (const name of ["slow", "slow it", "slow parts"]) await cluster.psql(`DROP DATABASE "${name}"`);
});

it("an extension that the target lacks is named before anything is made", async () => {
  await using programs = await relocatedPrograms({ withoutExtensions: ["hstore", "citext"] });
  await using poor = await startCluster({ programs });
  await using both = await pgkitFor({ rich: { cluster }, poor: { cluster: poor } });
  await both.backup("app", "rich");
  const ran = await both.run(["restore", "app", "--instance", "rich", "--to-instance", "poor"]);
  expect(ran).toMatchObject({
    status: 30,
    stderr: expect.stringMatching(/instance poor .*citext, hstore[\s\S]*install/),
  });
  expect(await databases(poor)).toEqual(["postgres"]);
});

it("a library that the target lacks fails the load, and leaves nothing", async () => {
  await using programs = await relocatedPrograms({ withoutLibraries: ["hstore"] });
  await using poor = await startCluster({ programs });
  await using both = await pgkitFor({ rich: { cluster }, poor: { cluster: poor } });
  await both.backup("app", "rich");
  const ran = await both.run(["restore", "app", "--instance", "rich", "--to-instance", "poor"]);
  expect(ran).toMatchObject({
    status: 30,
    stderr: expect.stringMatching(/could not access file "\$libdir\/hstore"[\s\S]*install/),
  });
  expect(await databases(poor)).toEqual(["postgres"]);
});

it("a server older than the backup's is refused", async () => {
  const id = await pgkit.backup("app", "it");
  await tamper(id, (manifest) => {
    manifest.server.version = "99.1";
  });
  const ran = await pgkit.run(["restore", "app", "--backup", id, "--as", "newer"]);
  expect(ran).toMatchObject({ status: 2, stderr: expect.stringMatching(/PostgreSQL 99.*--to-instance/s) });
});

it("a backup that is named is restored only as one of the instance that is named", async () => {
  const id = await pgkit.backup("app", "it");
  const ran = await pgkit.run(["restore", "app", "--backup", id, "--instance", "parts", "--as", "other"]);
  expect(ran).toMatchObject({
    status: 2,
    stderr: expect.stringMatching(/is of instance it, not of parts[\s\S]*--to-instance/),
  });
  expect(await databases()).toEqual(["app", "postgres"]);
  const planned = await pgkit.run(["restore", "app", "--backup", id, "--instance", "it", "--as", "other", "--dry-run"]);
  expect(planned).toMatchObject({ status: 0, stdout: expect.stringContaining(id) });
});

it("a row that is missing after the load fails the restore, and nothing takes the name", async () => {
  for (const instance of ["it", "parts"]) {
    const id = await pgkit.backup("app", instance);
    await tamper(id, (manifest) => {
      for (const table of manifest.logical.tables) if (table.rows !== undefined) table.rows++;
    });
    const ran = await pgkit.run(["restore", "app", "--backup", id, "--as", "lost"]);
    expect(ran).toMatchObject({
      status: 40,
      stderr: expect.stringContaining("table public.t has 1 rows, the backup has 2"),
    });
    expect(await databases()).toEqual(["app", "postgres"]);
  }
});

it("a table or a large object that is missing fails it, too", async () => {
  const id = await pgkit.backup("app", "it");
  await tamper(id, ({ logical }) => {
    logical.tables.push({ ...logical.tables[0], name: "no_longer", schema: "public", bytes: 0 });
    logical.largeObjects = 1;
  });
  const ran = await pgkit.run(["restore", "app", "--backup", id, "--as", "lost"]);
  expect(ran).toMatchObject({ status: 40, stderr: expect.stringContaining("table public.no_longer is missing") });
  expect(ran.stderr).toContain("there are 0 large objects, the backup has 1");
});

it("killed in the middle of the load, nothing has the name, and the next restore drops what is left", async () => {
  await cluster.psql("CREATE DATABASE big");
  await cluster.psql(
    "CREATE TABLE t AS SELECT g, repeat(md5(g::text), 40) AS a FROM generate_series(1, 60000) g",
    "big",
  );
  await pgkit.backup("big", "it");
  await cluster.psql("DROP DATABASE big");
  const config = join(pgkit.repository, "pgkit.yaml");
  await writeFile(config, pgkit.yaml, { mode: 0o600 });
  const child = spawn(
    process.execPath,
    [
      fileURLToPath(new URL("../support/pgkit-process.ts", import.meta.url)),
      "--config",
      config,
      "restore",
      "big",
      "--instance",
      "it",
    ],
    { stdio: "ignore" },
  );
  await eventually(async () => {
    expect(await cluster.psql("SELECT count(*) FROM pg_stat_progress_copy WHERE bytes_processed > 2000000")).toBe("1");
  });
  child.kill("SIGKILL");
  await once(child, "exit");
  expect(await databases()).toEqual(["app", expect.stringMatching(/^big_restoring_/), "postgres"]);
  const left = (await databases())[1];
  await eventually(async () => {
    expect(await cluster.psql(`SELECT count(*) FROM pg_stat_activity WHERE datname = '${left}'`)).toBe("0");
  });
  const ran = await pgkit.run(["restore", "big", "--instance", "it"]);
  expect(ran).toMatchObject({ status: 0, stderr: expect.stringContaining(`dropped database ${left}`) });
  expect(await databases()).toEqual(["app", "big", "postgres"]);
  expect(await cluster.psql("SELECT count(*) FROM t", "big")).toBe("60000");
});

/** Changes a manifest as it is stored. */
async function tamper(id: string, change: (manifest: Tampered) => void): Promise<void> {
  const entries = await readdir(join(pgkit.repository, "backups"), { recursive: true });
  const path = join(pgkit.repository, "backups", entries.find((entry) => entry.endsWith(`${id}.json`)) ?? "");
  const manifest: Tampered = JSON.parse(await readFile(path, "utf8"));
  change(manifest);
  await writeFile(path, JSON.stringify(manifest));
}

interface Tampered {
  server: { version: string };
  logical: { tables: { schema: string; name: string; rows?: number; bytes: number }[]; largeObjects: number };
}
