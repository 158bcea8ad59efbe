import { afterAll, beforeAll, expect, it } from "vitest";
import { runTool, toolInput } from "../../src/postgres/tools.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgkit, pgkitFor } from "../support/pgkit.ts";

let cluster: Cluster;
let pgkit: Pgkit;

beforeAll(async () => {
  cluster = await startCluster();
  pgkit = await pgkitFor({ whole: { cluster }, parts: { cluster, settings: ["wholeBelow: 1"] } });
  await cluster.psql("CREATE DATABASE app");
  await cluster.psql("CREATE TABLE t AS SELECT 1 AS a", "app");
});
afterAll(async () => {
  await pgkit?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});

/**
 * No provider of security labels can be loaded here: the only one that is packaged needs SELinux. That labels are in a
 * backup is seen by the restore, which does not leave them out on a server without the provider.
 */
it.each([
  ["whole", "pg_seclabel (objoid, classoid, objsubid, provider, label) SELECT 't'::regclass, 'pg_class'::regclass, 0,"],
  ["parts", "pg_seclabel (objoid, classoid, objsubid, provider, label) SELECT 't'::regclass, 'pg_class'::regclass, 1,"],
  ["whole", "pg_shseclabel (objoid, classoid, provider, label) SELECT oid, 'pg_database'::regclass,"],
])("a security label is in a backup as %s, and not left out by a restore: %s", async (instance, insert) => {
  const [catalog = ""] = insert.split(" ");
  const from = catalog === "pg_seclabel" ? "" : "FROM pg_database WHERE datname = 'app'";
  await cluster.psql(`SET allow_system_table_mods = on; INSERT INTO ${insert} 'dummy', 'top secret' ${from}`, "app");
  const backup = await pgkit.backup("app", instance);
  const ran = await pgkit.run(["restore", "app", "--backup", backup, "--as", "again"]);
  expect(ran).toMatchObject({
    status: 30,
    stderr: expect.stringMatching(/provider "dummy" is not loaded[\s\S]*load the/),
  });
  await cluster.psql(`SET allow_system_table_mods = on; DELETE FROM ${catalog}`, "app");
  expect(await cluster.psql("SELECT count(*) FROM pg_database WHERE datname LIKE 'again%'")).toBe("0");
});

it("a locale that the server's machine lacks is named with what to do", async () => {
  const { programs, host, port, superuser: user } = cluster;
  const { secret } = await import("../../src/lib/secret.ts");
  const connection = {
    ...{ hosts: [{ host, port }], user, password: secret(cluster.password), database: "postgres" },
    ...{ sslMode: "disable" as const, parameters: {} },
  };
  async function* script() {
    yield Buffer.from("CREATE DATABASE x TEMPLATE template0 LOCALE 'xx_XX.UTF-8';");
  }
  const target = { programs, connection, database: "postgres" };
  const made = toolInput(target, "psql", ["-X", "-v", "ON_ERROR_STOP=1", "-f", "-"], script());
  await expect(made).rejects.toMatchObject({
    code: "tool-failed",
    hint: expect.stringContaining("install the locale"),
  });
  await expect(runTool(target, "psql", ["-X", "-c", "SELECT 1"])).resolves.toContain("1");
});
