import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { secret } from "../../src/lib/secret.ts";
import { systemClock } from "../../src/lib/time.ts";
import type { Connection } from "../../src/postgres/connection.ts";
import { proveContent } from "../../src/restore/content.ts";
import { neededFiles } from "../../src/restore/database-files.ts";
import { missedRelations } from "../../src/restore/invalid-pages.ts";
import { withCluster } from "../support/cluster.ts";

const databases = ["template1", "template0", "postgres", "app", "other", "more"].map((name, index) => ({
  name,
  oid: [1, 4, 5, 16384, 16385, 16386][index] ?? 0,
  sizeBytes: 1000,
}));

describe("the files of a base backup that one database needs", () => {
  it.each([
    ["base/16385/2619", false],
    ["base/16385/2619_fsm", false],
    ["base/16386/16400.1", false],
    ["pg_tblspc/16500/PG_17_202406281/16385/16401_vm.3", false],
    ["base/16385/pg_filenode.map", true],
    ["base/16385/PG_VERSION", true],
    ["base/16384/2619", true],
    ["base/5/2619", true],
    ["base/1/2619", true],
    ["base/4/1259", true],
    ["base/99999/16400", true],
    ["pg_tblspc/16500/PG_17_202406281/16384/16401", true],
    ["global/1262", true],
    ["global/pg_control", true],
    ["pg_xact/0000", true],
    ["pg_multixact/members/0000", true],
    ["pg_wal/000000010000000000000003", true],
  ])("%s: %s", (path, wanted) => {
    const { wants, left } = neededFiles({ databases }, { oids: [16384], whole: false });
    expect(wants(path)).toBe(wanted);
    expect(left.map(({ name }) => name)).toEqual(["other", "more"]);
  });

  it("are all, where it is asked for, and for a database that the backup does not know", () => {
    for (const wanted of [
      { oids: [16384], whole: true },
      { oids: [20000], whole: false },
      { oids: [], whole: false },
    ]) {
      const { wants, left } = neededFiles({ databases }, wanted);
      expect([left, wants("base/16385/2619")]).toEqual([[], true]);
    }
  });
});

it("pages that recovery missed count, but for those of databases that nobody restored", async () => {
  const folder = await mkdtemp(join(tmpdir(), "pgkit-log-"));
  const line = (path: string, how: string) => `WARNING:  page 7 of relation ${path} ${how}\n`;
  const ofOthers =
    line("base/16385/2619", "is uninitialized") +
    line("pg_tblspc/16500/PG_17_202406281/16386/16401_vm", "does not exist") +
    "WARNING:  WAL contains references to invalid pages\nLOG:  redo done at 0/5000028\n";
  const log = join(folder, "log");
  const left = new Set([16385, 16386]);
  await writeFile(log, ofOthers);
  expect(await missedRelations(log, left)).toEqual([]);
  const own = ["base/16384/16390", "global/1262", "base/5/2619", "pg_tblspc/16500/PG_17_202406281/16384/9"];
  await writeFile(log, ofOthers + own.map((path) => line(path, "is uninitialized")).join(""));
  expect(await missedRelations(log, left)).toEqual(own);
  await rm(folder, { recursive: true });
});

describe("the comparison of two databases by content", () => {
  const setUp = `CREATE TABLE t (id int, b bytea, f float8, i interval, m money, c numeric, j jsonb);
    INSERT INTO t SELECT g, decode(md5(g::text), 'hex'), g / 3.0, g * interval '1 hour', g, g / 7.0, '{"a": 1}' FROM generate_series(1, 500) g;
    CREATE TABLE empty (); INSERT INTO empty DEFAULT VALUES;
    CREATE TABLE "we""ird tab" ("col ""umn" text COLLATE "C", gone int); INSERT INTO "we""ird tab" VALUES ('ä', 1);
    ALTER TABLE "we""ird tab" DROP COLUMN gone;
    CREATE SEQUENCE s; SELECT nextval('s'); SELECT lo_from_bytea(4711, 'large');`;

  it("finds nothing where rows are the same in another order, and settings of the databases differ", async () => {
    await withTwo(async (cluster, prove) => {
      for (const database of ["a", "b"]) await cluster.psql(setUp, database);
      await cluster.psql(
        "CREATE TABLE copy AS SELECT * FROM t ORDER BY id DESC; TRUNCATE t; INSERT INTO t SELECT * FROM copy; DROP TABLE copy",
        "b",
      );
      for (const setting of [
        "TimeZone = 'Asia/Tokyo'",
        "IntervalStyle = iso_8601",
        "bytea_output = escape",
        "extra_float_digits = -5",
      ]) {
        await cluster.psql(`ALTER DATABASE b SET ${setting}`);
      }
      expect(await prove()).toEqual({ tables: 3, rows: 502 });
    });
  });

  it.each([
    ["one value", "UPDATE t SET f = f + 1e-9 WHERE id = 77", /table public.t has the same 500 rows in number/],
    ["a row", "DELETE FROM t WHERE id = 3", /table public.t has 499 rows, it had 500/],
    [
      "two values that were exchanged",
      "UPDATE t SET id = CASE id WHEN 1 THEN 2 ELSE 1 END WHERE id < 3",
      /table public.t has the same/,
    ],
    ["a table", 'DROP TABLE "we""ird tab"', /we"ird tab/],
    ["a sequence", "SELECT nextval('s')", /sequence public.s is elsewhere/],
    ["a large object", "SELECT lo_put(4711, 0, 'L')", /large objects have other content/],
  ])("finds %s", async (_, change, says) => {
    await withTwo(async (cluster, prove) => {
      for (const database of ["a", "b"]) await cluster.psql(setUp, database);
      await cluster.psql(change, "b");
      await expect(prove()).rejects.toThrow(says);
    });
  });
});

type Cluster = Parameters<Parameters<typeof withCluster>[1]>[0];

async function withTwo(use: (cluster: Cluster, prove: () => ReturnType<typeof proveContent>) => Promise<void>) {
  await withCluster({}, async (cluster) => {
    for (const name of ["a", "b"]) await cluster.psql(`CREATE DATABASE ${name}`);
    const { host, port, superuser: user } = cluster;
    const connection: Connection = {
      ...{ hosts: [{ host, port }], user, password: secret(cluster.password), database: "postgres" },
      ...{ sslMode: "disable", parameters: {} },
    };
    const [from, to] = [
      { connection, database: "a" },
      { connection, database: "b" },
    ];
    const { signal } = new AbortController();
    await use(cluster, () => proveContent({ from, to, jobs: 2, clock: systemClock, report: () => undefined, signal }));
  });
}
