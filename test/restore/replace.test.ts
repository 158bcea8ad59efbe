import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { type Pgkit, pgkitFor } from "../support/pgkit.ts";

let cluster: Cluster;
let pgkit: Pgkit;
let backup: string;

beforeAll(async () => {
  cluster = await startCluster({ settings: { max_prepared_transactions: "3" } });
  pgkit = await pgkitFor({ it: { cluster, settings: ["wholeBelow: 1"] } });
  await cluster.psql("CREATE ROLE app LOGIN PASSWORD 'of the app'");
  await cluster.psql("CREATE DATABASE app OWNER app");
  await cluster.psql("SET ROLE app; CREATE TABLE t AS SELECT generate_series(1, 20000) AS a", "app");
  backup = await pgkit.backup("app");
  await cluster.psql("INSERT INTO t VALUES (-1)", "app");
  await cluster.psql("CREATE DATABASE pristine TEMPLATE app");
});
afterAll(async () => {
  await pgkit?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});
beforeEach(async () => {
  for (const name of (await databases()).filter((each) => each.startsWith("app")))
    await cluster.psql(`DROP DATABASE "${name}" WITH (FORCE)`);
  await cluster.psql("CREATE DATABASE app TEMPLATE pristine OWNER app");
});

const newest = (database: string) => cluster.psql("SELECT min(a) FROM t", database);

async function databases(): Promise<string[]> {
  return (await cluster.psql("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1")).split("\n");
}

describe("--replace", () => {
  it("swaps under an application that reconnects all the time, and keeps the old one whole", async () => {
    const sent = { done: false, answered: 0, missing: 0 };
    const applications = Promise.all([1, 2, 3, 4].map(() => application(sent)));
    try {
      const { keptAs } = await pgkit.json(["restore", "app", "--replace", "--yes"]);
      expect(keptAs).toMatch(/^app_before_\d{8}t\d{6}z$/);
      expect([await newest("app"), await newest(keptAs)]).toEqual(["1", "-1"]);
      expect(await cluster.psql("SELECT count(*) FROM t", keptAs)).toBe("20001");
      expect(await databases()).toEqual(["app", keptAs, "postgres", "pristine"]);
    } finally {
      sent.done = true;
      await applications;
    }
    expect(sent.answered).toBeGreaterThan(10);
    // Only who was let in and waited while the names changed hears that; a new attempt finds the restored one.
    expect(sent.missing).toBeLessThanOrEqual(4);
  });

  it("asks first, and without an answer leaves all as it is", async () => {
    const ran = await pgkit.run(["restore", "app", "--replace"]);
    expect(ran.status).toBe(2);
    expect(await databases()).toEqual(["app", "postgres", "pristine"]);
    expect(await newest("app")).toBe("-1");
  });

  it("that cannot get the name keeps what it has restored, and says how to go on", async () => {
    const client = await cluster.connect("app");
    await client.query("BEGIN; INSERT INTO t VALUES (-2); PREPARE TRANSACTION 'pending'");
    await client.end();
    const ran = await pgkit.run(["restore", "app", "--replace", "--yes"]);
    expect(ran.status).toBe(30);
    expect(ran.stderr).toMatch(/could not be named app.*prepared transaction|being accessed/s);
    const [restored = ""] = (await databases()).filter((name) => name.startsWith("app_restoring_"));
    expect(ran.stderr).toContain(`stays as ${restored}`);
    expect([await newest(restored), await newest("app")]).toEqual(["1", "-1"]);
    await cluster.psql("ROLLBACK PREPARED 'pending'", "app");
    // It is not taken for the leftover of a restore that was killed.
    await pgkit.json(["restore", "app", "--as", "app_again"]);
    expect(await databases()).toContain(restored);
  });

  it("of the database that pgkit itself connects to", async () => {
    await cluster.psql("CREATE TABLE IF NOT EXISTS t AS SELECT 1 AS a");
    await pgkit.backup("postgres");
    await cluster.psql("INSERT INTO t VALUES (-1)");
    const { keptAs } = await pgkit.json(["restore", "postgres", "--replace", "--yes"]);
    expect([await newest("postgres"), await newest(keptAs)]).toEqual(["1", "-1"]);
    await cluster.psql(`DROP DATABASE "${keptAs}"`);
  });

  it("of what is not there is refused", async () => {
    expect(
      await pgkit.run(["restore", "app", "--replace", "--yes", "--backup", backup, "--to-instance", "it"]),
    ).toMatchObject({ status: 0 });
    await cluster.psql("DROP DATABASE app");
    expect(await pgkit.run(["restore", "app", "--replace", "--yes"])).toMatchObject({ status: 10 });
  });
});

describe("a restore", () => {
  it("of a database that exists is refused, and nothing is changed", async () => {
    const ran = await pgkit.run(["restore", "app"]);
    expect(ran).toMatchObject({ status: 21, stderr: expect.stringMatching(/--as NAME.*--replace/s) });
    expect(await databases()).toEqual(["app", "postgres", "pristine"]);
  });

  it("of the database that the connection names, which is gone", async () => {
    await using named = await pgkitFor({ it: { cluster, database: "app" } });
    await named.backup("app");
    await cluster.psql("DROP DATABASE app");
    await named.json(["restore", "app"]);
    expect(await newest("app")).toBe("-1");
    await named.json(["restore", "app", "--replace", "--yes"]);
  });

  it("gets its name though a monitor is in every database, the new one, too", async () => {
    const sent = { done: false, answered: 0, missing: 0 };
    const monitor = monitoring(sent);
    try {
      await pgkit.json(["restore", "app", "--as", "app_again"]);
    } finally {
      sent.done = true;
      await monitor;
    }
    expect(sent.answered).toBeGreaterThan(0);
    expect(await newest("app_again")).toBe("1");
  });

  it("leaves the database of another that is under way alone", async () => {
    const names = ["app_1", "app_2", "app_3", "app_4"];
    const ran = await Promise.all(names.map((name) => pgkit.run(["restore", "app", "--as", name])));
    expect(ran.map(({ status, stderr }) => [status, stderr.includes("left by")])).toEqual(names.map(() => [0, false]));
    expect(await databases()).toEqual(["app", ...names, "postgres", "pristine"]);
  });

  it("twice at once under one name: one is it, and the other is refused", async () => {
    const ran = await Promise.all([1, 2].map(() => pgkit.run(["restore", "app", "--as", "app_one"])));
    const lost = ran.find(({ status }) => status !== 0);
    expect(ran.map(({ status }) => status).sort()).toEqual([0, 21]);
    expect(lost?.stderr).toMatch(/app_one.* already exists/s);
    expect(await newest("app_one")).toBe("1");
  });
});

/** Connects, asks, and begins again, as an application with a pool does. */
async function application(sent: { done: boolean; answered: number; missing: number }): Promise<void> {
  while (!sent.done) {
    const client = new pg.Client({ ...login, user: "app", password: "of the app", database: "app" });
    client.on("error", () => undefined);
    try {
      await client.connect();
      for (let turn = 0; turn < 5 && !sent.done; turn++) {
        await client.query("SELECT count(*) FROM t");
        sent.answered++;
      }
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "3D000") sent.missing++;
    } finally {
      await client.end().catch(() => undefined);
    }
  }
}

/** Sits in every database that is being loaded. */
async function monitoring(sent: { done: boolean; answered: number }): Promise<void> {
  while (!sent.done) {
    const [loading] = (await databases()).filter((name) => name.includes("_restoring_"));
    if (loading === undefined) continue;
    const client = new pg.Client({ ...login, user: cluster.superuser, password: cluster.password, database: loading });
    client.on("error", () => undefined);
    await client.connect().then(
      () => sent.answered++,
      () => undefined,
    );
    await delay(20);
    await client.end().catch(() => undefined);
  }
}

const login = {
  get host() {
    return cluster.host;
  },
  get port() {
    return cluster.port;
  },
};
