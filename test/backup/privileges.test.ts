import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { describeDatabase } from "../support/describe.ts";
import { type JsonResult, type Pgkit, pgkitFor } from "../support/pgkit.ts";

const user = { name: "backup", password: "it's : a @ secret/%" };
let cluster: Cluster;
let pgkit: Pgkit;

beforeAll(async () => {
  cluster = await startCluster();
  pgkit = await pgkitFor({
    whole: { cluster, user },
    parts: { cluster, user, settings: ["wholeBelow: 1"] },
    super: { cluster },
  });
  await cluster.psql(
    `CREATE ROLE backup LOGIN PASSWORD 'it''s : a @ secret/%'; GRANT pg_read_all_data TO backup;
     CREATE ROLE app LOGIN PASSWORD 'of the app'`,
  );
  await cluster.psql("CREATE DATABASE app OWNER app");
  await cluster.psql(
    `SET ROLE app; CREATE SCHEMA inner_part; CREATE TABLE inner_part.t AS SELECT generate_series(1, 1000) AS a;
     CREATE SEQUENCE s; CREATE VIEW v AS SELECT 1; CREATE MATERIALIZED VIEW m AS SELECT 1 AS one`,
    "app",
  );
});
afterAll(async () => {
  await pgkit?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});

describe.each(["whole", "parts"])("a backup as %s by a user with pg_read_all_data alone", (instance) => {
  const back = () => pgkit.run(["backup", "logical", "app", "--instance", instance, "--json"]);

  it("holds all, the passwords of roles, too", async () => {
    const before = await describeDatabase(cluster, "app");
    const id = await pgkit.backup("app", instance);
    const { logical } = await pgkit.json<{ logical: { passwordsIncluded: boolean; roles: string[] } }>(["show", id]);
    expect(logical).toMatchObject({ passwordsIncluded: true, roles: expect.arrayContaining(["app"]) });
    await pgkit.json(["restore", "app", "--backup", id, "--to-instance", "super", "--as", "again"]);
    expect({ ...(await describeDatabase(cluster, "again")), analyzed: [] }).toEqual({ ...before, analyzed: [] });
    await cluster.psql("DROP DATABASE again");
  });

  it("is refused where row-level security would hide rows, with what to do", async () => {
    await cluster.psql("CREATE TABLE own (a int); ALTER TABLE own ENABLE ROW LEVEL SECURITY", "app");
    const ran = await back();
    expect(ran).toMatchObject({ status: 12, stdout: "" });
    expect(ran.stderr).toMatch(/row-level security policy for table \\"own\\".*BYPASSRLS/);
    await cluster.psql("ALTER ROLE backup BYPASSRLS");
    expect(await back()).toMatchObject({ status: 0 });
    await cluster.psql("ALTER ROLE backup NOBYPASSRLS");
    await cluster.psql("DROP TABLE own", "app");
  });

  it("is refused where it may not read a large object", async () => {
    await cluster.psql("SELECT lo_from_bytea(70001, 'large')", "app");
    const readable = await cluster.psql("SET ROLE backup; SELECT count(lo_get(70001))", "app").catch(() => "no");
    const ran = await back();
    if (readable === "no") {
      expect(ran).toMatchObject({ status: 12, stdout: "" });
      expect(ran.stderr).toMatch(/permission denied for large object 70001.*superuser/);
    } else expect(ran.status).toBe(0);
    await cluster.psql("SELECT lo_unlink(70001)", "app");
  });

  it("says that it leaves subscriptions out, which pg_dump does in silence", async () => {
    await cluster.psql(
      "CREATE SUBSCRIPTION far CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false, slot_name = NONE)",
      "app",
    );
    expect(await back()).toMatchObject({ status: 0, stderr: expect.stringMatching(/1 subscription.* app.*superuser/) });
    await cluster.psql("DROP SUBSCRIPTION far", "app");
  });

  it("is refused without the privilege, for the one database that it lacks it for", async () => {
    await cluster.psql("REVOKE CONNECT ON DATABASE app FROM PUBLIC");
    const ran = await pgkit.run(["backup", "logical", "--instance", instance, "--json"]);
    expect(ran.status).toBe(3);
    const { failures } = JSON.parse(ran.stdout) as JsonResult;
    expect(failures).toMatchObject([
      { database: "app", code: "postgres-denied", message: expect.stringContaining("permission denied for database") },
    ]);
    await cluster.psql("GRANT CONNECT ON DATABASE app TO PUBLIC; REVOKE pg_read_all_data FROM backup");
    expect(await back()).toMatchObject({
      status: 12,
      stderr: expect.stringMatching(/permission denied for (schema|table)/),
    });
    await cluster.psql("GRANT pg_read_all_data TO backup");
  });
});

it("a password that is wrong is exit 12, and told to nobody", async () => {
  await using wrong = await pgkitFor({ it: { cluster, user: { name: "backup", password: "hunter2" } } });
  const ran = await wrong.run(["backup", "logical"]);
  expect(ran).toMatchObject({ status: 12, stderr: expect.stringContaining("password authentication failed") });
  expect(ran.stderr).not.toContain("hunter2");
});

it("one who may create databases and roles restores what is the own", async () => {
  await cluster.psql("CREATE ROLE tenant LOGIN CREATEDB CREATEROLE PASSWORD 'pw of the tenant'");
  await cluster.psql("CREATE DATABASE tenancy OWNER tenant");
  await cluster.psql(
    "SET ROLE tenant; CREATE ROLE tenant_reader; CREATE TABLE t AS SELECT generate_series(1, 10) AS a; GRANT SELECT ON t TO tenant_reader",
    "tenancy",
  );
  await using tenant = await pgkitFor({ own: { cluster, user: { name: "tenant", password: "pw of the tenant" } } });
  const before = await describeDatabase(cluster, "tenancy");
  const id = await tenant.backup("tenancy");
  const { logical } = await tenant.json<{ logical: { passwordsIncluded: boolean; roles: string[] } }>(["show", id]);
  expect(logical).toMatchObject({ passwordsIncluded: false, roles: ["tenant", "tenant_reader"] });
  expect((await tenant.run(["show", id])).stdout).toMatch(/roles:.*tenant.*without passwords/);
  await cluster.psql("DROP DATABASE tenancy");
  await cluster.psql("DROP ROLE tenant_reader");
  await tenant.json(["restore", "tenancy"]);
  expect({ ...(await describeDatabase(cluster, "tenancy")), analyzed: [] }).toEqual({ ...before, analyzed: [] });
  await tenant.json(["restore", "tenancy", "--replace", "--yes"]);
  expect(await describeDatabase(cluster, "tenancy")).toMatchObject({ rows: before.rows });
});
