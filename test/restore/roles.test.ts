import pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { describeRoles } from "../support/describe.ts";
import { type Pgkit, pgkitFor } from "../support/pgkit.ts";

const password = "pa'ss \\ wörd: %s $1";
let source: Cluster;
let target: Cluster;
let pgkit: Pgkit;

beforeAll(async () => {
  [source, target] = await Promise.all([startCluster(), startCluster()]);
  pgkit = await pgkitFor({ source: { cluster: source }, target: { cluster: target } });
  await source.psql(
    `CREATE ROLE app LOGIN PASSWORD 'pa''ss \\ wörd: %s $1' CONNECTION LIMIT 7;
     ALTER ROLE app SET work_mem = '9MB'; COMMENT ON ROLE app IS 'of the backup';
     CREATE ROLE team; GRANT team TO app; CREATE ROLE alone LOGIN PASSWORD 'unused'`,
  );
  await source.psql("CREATE DATABASE app OWNER app");
  await source.psql("CREATE TABLE t AS SELECT 1 AS a; ALTER TABLE t OWNER TO team", "app");
  await pgkit.backup("app", "source");
});
afterAll(async () => {
  await pgkit?.[Symbol.asyncDispose]();
  await Promise.all([source, target].map((cluster) => cluster?.[Symbol.asyncDispose]()));
});

const restore = (...args: string[]) =>
  pgkit.run(["restore", "app", "--instance", "source", "--to-instance", "target", ...args]);

async function logIn(as: string, secret: string): Promise<string> {
  const { host, port } = target;
  const client = new pg.Client({ host, port, user: as, password: secret, database: "app" });
  await client.connect();
  try {
    return (await client.query("SELECT current_user || ' ' || current_setting('work_mem') AS who")).rows[0].who;
  } finally {
    await client.end();
  }
}

it("a role that is missing is made, and logs in with the password that it had", async () => {
  const ran = await restore("--json");
  expect(ran).toMatchObject({ status: 0 });
  expect(await logIn("app", password)).toBe("app 9MB");
  const wanted = (await describeRoles(source)).filter((role) => !JSON.stringify(role).includes('"alone"'));
  expect(await describeRoles(target)).toEqual(wanted);
});

it("a role that exists is left as it is", async () => {
  await target.psql("DROP DATABASE app");
  await target.psql(
    "ALTER ROLE app PASSWORD 'another' CONNECTION LIMIT 3 CREATEDB; ALTER ROLE app SET work_mem = '5MB'",
  );
  await target.psql("REVOKE team FROM app; COMMENT ON ROLE app IS 'of the target'");
  const before = await describeRoles(target);
  const ran = await restore();
  expect(ran.status).toBe(0);
  expect(ran.stderr).toMatch(/roles to create: none/);
  expect(await describeRoles(target)).toEqual(before);
  expect(await logIn("app", "another")).toBe("app 5MB");
});

it("--update-roles makes it what it was in the backup, and says so first", async () => {
  const planned = await restore("--as", "again", "--update-roles", "--dry-run");
  expect(planned.stdout).toMatch(/to update: app, team/);
  expect(await logIn("app", "another")).toBe("app 5MB");
  expect((await restore("--as", "again", "--update-roles")).status).toBe(0);
  expect(await logIn("app", password)).toBe("app 9MB");
  const wanted = (await describeRoles(source)).filter((role) => !JSON.stringify(role).includes('"alone"'));
  expect(await describeRoles(target)).toEqual(wanted);
});

it("a member that is missing joins a group that exists, which stays as it is", async () => {
  for (const name of ["app", "again"]) await target.psql(`DROP DATABASE ${name}`);
  await target.psql("DROP ROLE app; ALTER ROLE team CREATEDB");
  expect((await restore()).status).toBe(0);
  expect(await target.psql("SELECT pg_has_role('app', 'team', 'member')")).toBe("t");
  expect(await target.psql("SELECT rolcreatedb FROM pg_roles WHERE rolname = 'team'")).toBe("t");
});
