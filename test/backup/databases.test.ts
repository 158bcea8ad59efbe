import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Cluster, startCluster, testPrograms } from "../support/cluster.ts";
import { describeDatabase } from "../support/describe.ts";
import { type Pgkit, pgkitFor } from "../support/pgkit.ts";

const { major } = await testPrograms();
let cluster: Cluster;
let pgkit: Pgkit;

beforeAll(async () => {
  cluster = await startCluster();
  pgkit = await pgkitFor({
    whole: { cluster },
    parts: { cluster, settings: ["wholeBelow: 1", "jobs: 2"] },
  });
});
afterAll(async () => {
  await pgkit?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});

/** Makes it, describes it, backs it up, drops it, restores it, describes it again. */
async function thereAndBack(database: string, options: string, sql: string, instance: string): Promise<void> {
  const quoted = `"${database.replaceAll('"', '""')}"`;
  await cluster.psql(`CREATE DATABASE ${quoted} ${options}`);
  await cluster.psql(sql, database);
  const before = await describeDatabase(cluster, database);
  const backup = await pgkit.backup(database, instance);
  await cluster.psql(`DROP DATABASE ${quoted}`);
  await pgkit.json(["restore", database, "--instance", instance, "--backup", backup]);
  const after = await describeDatabase(cluster, database);
  expect({ ...after, analyzed: [] }).toEqual({ ...before, analyzed: [] });
  await cluster.psql(`DROP DATABASE ${quoted}`);
}

const text = "CREATE TABLE t (a text); INSERT INTO t VALUES ('Zürich'), ('zebra'), ('Ärger');";
const databases: [name: string, options: string, sql: string][] = [
  ["empty", "", "SELECT 1"],
  ["with spaces, 'quotes' \\ and = signs; %s $(x)", "", text],
  ["dbname=postgres", "", text],
  ["postgresql://localhost/x", "", text],
  ["ü".repeat(31), "", text],
  ["line\nbreak\ttab", "", text],
  ["latin1", "TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'", text],
  [
    "euc",
    "TEMPLATE template0 ENCODING 'EUC_JP' LOCALE 'C'",
    "CREATE TABLE 表 (列 text); INSERT INTO 表 VALUES ('日本語')",
  ],
  [
    "bytes without a character",
    "TEMPLATE template0 ENCODING 'WIN1252' LOCALE 'C'",
    "CREATE TABLE t (a text); INSERT INTO t SELECT convert_from('\\x818d8f909d80', 'WIN1252')",
  ],
  ["icu", "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'sv-u-ks-level1' LOCALE 'C.UTF-8'", text],
  ...(major < 16
    ? []
    : ([
        [
          "icu with rules",
          "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en' ICU_RULES '&a < ''z''' LOCALE 'C.UTF-8'",
          text,
        ],
      ] satisfies [string, string, string][])),
  ...(major < 17
    ? []
    : ([["builtin", "TEMPLATE template0 LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'", text]] satisfies [
        string,
        string,
        string,
      ][])),
];

describe("a database comes back as it was:", () => {
  it.each(databases)("%j", async (name, options, sql) => {
    await thereAndBack(name, options, sql, "whole");
  });

  it.each(["whole", "parts"])("bytes of no encoding in SQL_ASCII, as %s", async (instance) => {
    const options = "TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'";
    await cluster.psql(`CREATE DATABASE bytes ${options}`);
    const sql = "CREATE TABLE t (a text); SET client_encoding = 'SQL_ASCII'; INSERT INTO t VALUES (E'\\xfc\\xff\\xfe')";
    await cluster.psql(sql, "bytes");
    const backup = await pgkit.backup("bytes", instance);
    await cluster.psql("DROP DATABASE bytes");
    await pgkit.json(["restore", "bytes", "--instance", instance, "--backup", backup]);
    expect(await cluster.psql("SELECT a::bytea FROM t", "bytes")).toBe("\\xfcfffe");
    await cluster.psql("DROP DATABASE bytes");
  });

  it("a table of another encoding, brought back alone with its foreign key", async () => {
    await cluster.psql("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'");
    await cluster.psql(
      `CREATE TABLE "Käufer" (id int PRIMARY KEY); INSERT INTO "Käufer" VALUES (1);
       CREATE TABLE "Aufträge" (käufer int CONSTRAINT "für" REFERENCES "Käufer"); INSERT INTO "Aufträge" VALUES (1)`,
      "latin",
    );
    const before = await describeDatabase(cluster, "latin");
    await pgkit.backup("latin", "parts");
    await cluster.psql('DROP TABLE "Käufer" CASCADE', "latin");
    const restored = await pgkit.json(["restore", "latin", "--instance", "parts", "--table", "Käufer"]);
    expect(restored).toMatchObject({ rows: 1, notRestored: [] });
    expect(await describeDatabase(cluster, "latin")).toMatchObject({ schema: before.schema, rows: before.rows });
  });

  it.each(["whole", "parts"])("2,000 tables, as %s", async (instance) => {
    const sql = `DO $$ BEGIN FOR i IN 1..2000 LOOP
      EXECUTE format('CREATE TABLE t%s AS SELECT %s AS a', i, i);
      IF i % 500 = 0 THEN COMMIT; END IF; END LOOP; END $$`;
    await thereAndBack("many", "", sql, instance);
  });
});

it("a database whose name looks like a flag is one all the same", async () => {
  await cluster.psql('CREATE DATABASE "-f"');
  expect(await pgkit.run(["backup", "logical", "--instance", "whole", "--", "-f"])).toMatchObject({ status: 0 });
  await cluster.psql('DROP DATABASE "-f"');
  expect(await pgkit.run(["restore", "--instance", "whole", "--", "-f"])).toMatchObject({ status: 0 });
});

it("what belongs to the database itself: an ACL that grants nothing, a limit of 0, no comment", async () => {
  await cluster.psql("CREATE ROLE somebody LOGIN");
  await cluster.psql("CREATE DATABASE closed CONNECTION LIMIT 0");
  await cluster.psql("REVOKE ALL ON DATABASE closed FROM PUBLIC, postgres");
  const before = await describeDatabase(cluster, "closed");
  await pgkit.backup("closed", "whole");
  await pgkit.json(["restore", "closed", "--instance", "whole", "--as", "closed too"]);
  expect((await describeDatabase(cluster, "closed too")).database).toEqual(before.database);
  const granted = "SELECT has_database_privilege('somebody', 'closed too', 'CONNECT')";
  expect(await cluster.psql(granted)).toBe("f");
});

it("rows that are not to be counted are not compared", async () => {
  await using quick = await pgkitFor({ it: { cluster, settings: ["countRows: false"] } });
  await cluster.psql("CREATE DATABASE uncounted");
  await cluster.psql("CREATE TABLE t AS SELECT generate_series(1, 10) AS a; ANALYZE t", "uncounted");
  const id = await quick.backup("uncounted");
  const { logical } = await quick.json<{ logical: { tables: object[] } }>(["show", id]);
  expect(logical.tables).toEqual([expect.not.objectContaining({ rows: expect.anything() })]);
  expect(logical.tables).toMatchObject([{ name: "t", rowsEstimate: 10 }]);
  expect(await quick.json(["restore", "uncounted", "--as", "uncounted too"])).toMatchObject({ tables: 1, rows: 0 });
  expect(await cluster.psql("SELECT count(*) FROM t", "uncounted too")).toBe("10");
});

it("a tablespace is taken where there is one of that name, and the default one where there is none", async () => {
  const { mkdtemp, chown, rm } = await import("node:fs/promises");
  const { tmpdir } = await import("node:os");
  const { join } = await import("node:path");
  const folder = await mkdtemp(join(tmpdir(), "pgkit-space-"));
  try {
    if (cluster.runAs !== undefined) await chown(folder, cluster.runAs.uid, cluster.runAs.gid);
    await cluster.psql(`CREATE TABLESPACE "fast ""disk" LOCATION '${folder}'`);
    await cluster.psql(`CREATE DATABASE spaced TABLESPACE "fast ""disk"`);
    await cluster.psql(text, "spaced");
    await cluster.psql(`CREATE TABLE elsewhere TABLESPACE pg_default AS SELECT 1 AS a`, "spaced");
    await cluster.psql("CREATE DATABASE plain");
    await cluster.psql(`CREATE TABLE in_space (a int) TABLESPACE "fast ""disk"`, "plain");
    const before = await describeDatabase(cluster, "spaced");
    await pgkit.json(["backup", "logical", "spaced", "plain", "--instance", "whole"]);
    await pgkit.json(["restore", "spaced", "--instance", "whole", "--as", "again"]);
    expect(await describeDatabase(cluster, "again")).toMatchObject({
      schema: before.schema,
      database: before.database,
    });
    for (const name of ["spaced", "again", "plain"]) await cluster.psql(`DROP DATABASE ${name}`);
    await cluster.psql(`DROP TABLESPACE "fast ""disk"`);
    for (const name of ["spaced", "plain"]) {
      const ran = await pgkit.run(["restore", name, "--instance", "whole"]);
      expect(ran).toMatchObject({
        status: 0,
        stderr: name === "plain" ? expect.stringContaining('no tablespace fast "disk') : expect.any(String),
      });
    }
    const after = await describeDatabase(cluster, "spaced");
    expect(after.rows).toEqual(before.rows);
    expect(after.database).toMatchObject([{ tablespace: "pg_default" }]);
    expect(Object.keys((await describeDatabase(cluster, "plain")).rows)).toEqual(["public.in_space"]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
