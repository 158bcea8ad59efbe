import { execFile } from "node:child_process";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startServer } from "../../src/postgres/server.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { describeDatabase } from "../support/describe.ts";
import { eventually } from "../support/eventually.ts";
import { type Pgkit, pgkitFor } from "../support/pgkit.ts";

let cluster: Cluster;
let pgkit: Pgkit;

beforeAll(async () => {
  cluster = await startCluster({ settings: { wal_level: "replica", hot_standby: "on" } });
  pgkit = await pgkitFor({
    whole: { cluster },
    parts: { cluster, settings: ["wholeBelow: 1", "jobs: 3"] },
    narrow: { cluster, settings: ["wholeBelow: 1", "jobs: 8", "connections: 2"] },
    wide: { cluster, settings: ["wholeBelow: 400KiB", "jobs: 2", "connections: 6"] },
  });
  await cluster.psql("CREATE DATABASE bank");
  await cluster.psql(
    `CREATE TABLE checking AS SELECT g AS id, 100 AS amount, repeat('x', 500) AS pad FROM generate_series(1, 20000) g;
     CREATE TABLE saving AS SELECT * FROM checking;
     ALTER TABLE checking ADD PRIMARY KEY (id); ALTER TABLE saving ADD PRIMARY KEY (id);
     CREATE TABLE seldom (a int); CREATE SEQUENCE numbers; CREATE UNLOGGED TABLE forgettable AS SELECT 1 AS a`,
    "bank",
  );
});
afterAll(async () => {
  await pgkit?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
});

/** Runs `work` while `step` is done over and over; gives how often. */
async function meanwhile(step: (turn: number) => Promise<unknown>, work: () => Promise<unknown>): Promise<number> {
  let [done, turns] = [false, 0];
  const stepping = (async () => {
    while (!done) await step(turns++);
  })();
  try {
    await work();
  } finally {
    done = true;
    await stepping;
  }
  return turns;
}

describe.each(["whole", "parts"])("a backup as %s under writes", (instance) => {
  it("is of one moment: money on its way between two tables is in one of them", async () => {
    const writer = await cluster.connect("bank");
    let backup = "";
    const moves = await meanwhile(
      async (turn) => {
        const id = (turn * 7919) % 20_000;
        await writer.query(
          `BEGIN; UPDATE checking SET amount = amount - 1 WHERE id > ${id} AND id < ${id} + 20;
           UPDATE saving SET amount = amount + 1 WHERE id > ${id} AND id < ${id} + 20;
           INSERT INTO seldom VALUES (${turn}); DELETE FROM seldom WHERE a < ${turn} - 3; COMMIT`,
        );
      },
      async () => {
        backup = await pgkit.backup("bank", instance);
      },
    );
    await writer.end();
    expect(moves).toBeGreaterThan(5);
    // It compares the rows of each table with what was counted in the backup's snapshot.
    await pgkit.json(["restore", "bank", "--backup", backup, "--as", "back then", "--instance", instance]);
    const total = "SELECT sum(amount) FROM (SELECT amount FROM checking UNION ALL SELECT amount FROM saving) all_of_it";
    expect(await cluster.psql(total, "back then")).toBe("4000000");
    await cluster.psql('DROP DATABASE "back then"');
  });

  it("keeps DDL out of its tables until its end, while other tables come and go", async () => {
    const before = await describeDatabase(cluster, "bank");
    const other = await cluster.connect("bank");
    await other.query("SET lock_timeout = '20ms'");
    const outcomes: string[] = [];
    let backup = "";
    await meanwhile(
      async (turn) => {
        await other.query(`CREATE TABLE ${instance}_${turn} AS SELECT 1 AS a`);
        // One that the backup has in its snapshot stays until the end, too.
        await other.query(`DROP TABLE ${instance}_${turn}`).catch((error) => outcomes.push(error.message));
        const alter = other.query("ALTER TABLE seldom ADD COLUMN b int; ALTER TABLE seldom DROP COLUMN b");
        await alter.catch((error) => outcomes.push(error.message));
      },
      async () => {
        backup = await pgkit.backup("bank", instance);
      },
    );
    await other.end();
    expect(new Set(outcomes)).toEqual(new Set(["canceling statement due to lock timeout"]));
    await pgkit.json(["restore", "bank", "--backup", backup, "--as", "back then", "--instance", instance]);
    const after = await describeDatabase(cluster, "back then");
    // One that was there in the backup's moment is in it.
    expect(after.rows).toMatchObject(before.rows);
    await cluster.psql('DROP DATABASE "back then"');
  });
});

describe("the connections of a backup", () => {
  beforeAll(() => cluster.psql("CREATE DATABASE bank_too TEMPLATE bank"));

  it.each([
    ["narrow", 2],
    ["wide", 6],
  ])("stay within the budget of instance %s, %i", async (instance, most) => {
    const watcher = await cluster.connect();
    let [seen, over] = [0, 0];
    await meanwhile(
      async () => {
        const first = await ours(watcher);
        seen = Math.max(seen, first.length);
        if (first.length <= most) return;
        // A server process outlives its connection by a moment: what counts are those that stay.
        await delay(50);
        const still = await ours(watcher);
        over = Math.max(over, first.filter((pid) => still.includes(pid)).length - most);
      },
      () => pgkit.json(["backup", "logical", "--instance", instance]),
    );
    await watcher.end();
    expect(seen).toBeGreaterThanOrEqual(most - 1);
    expect(over).toBe(0);
  });

  async function ours(watcher: Awaited<ReturnType<Cluster["connect"]>>): Promise<number[]> {
    const { rows } = await watcher.query("SELECT pid FROM pg_stat_activity WHERE application_name = 'pgkit'");
    return rows.map(({ pid }) => pid);
  }
});

describe("a standby", () => {
  let standby: { url: string; stop: () => Promise<void> };
  let fromStandby: Pgkit;

  beforeAll(async () => {
    const dataDir = join(cluster.dataDir, "..", "standby");
    const { binDir, runAs } = cluster;
    await cluster.program("pg_basebackup", ["-D", dataDir, "-R", "-X", "stream", "--checkpoint=fast", "--no-sync"]);
    if (runAs !== undefined) await promisify(execFile)("chown", ["-R", `${runAs.uid}:${runAs.gid}`, dataDir]);
    const server = await startServer({ binDir, dataDir, runAs, tcp: true });
    standby = { url: server.url ?? "", stop: () => server.stop("immediate") };
    fromStandby = await pgkitFor({
      standby: { cluster: { ...cluster, port: server.port } as Cluster, settings: ["wholeBelow: 1", "jobs: 2"] },
      primary: { cluster },
    });
  });
  afterAll(async () => {
    await fromStandby?.[Symbol.asyncDispose]();
    await standby?.stop();
  });

  it("is backed up as its primary is, but for the rows of unlogged tables, which it does not have", async () => {
    const lsn = await cluster.psql("SELECT pg_current_wal_lsn()");
    const before = await describeDatabase(cluster, "bank");
    await eventually(async () => {
      const backup = await fromStandby.backup("bank", "standby");
      const show = await fromStandby.json<{ logical: { lsn: string } }>(["show", backup]);
      expect(await cluster.psql(`SELECT '${show.logical.lsn}'::pg_lsn >= '${lsn}'::pg_lsn`)).toBe("t");
    });
    await fromStandby.json(["restore", "bank", "--instance", "standby", "--to-instance", "primary", "--as", "again"]);
    const after = await describeDatabase(cluster, "again");
    expect(after.rows).toEqual({ ...before.rows, "public.forgettable": "" });
    expect(after.schema).toEqual(before.schema);
    await cluster.psql("DROP DATABASE again");
  });

  it("is not restored into", async () => {
    const ran = await fromStandby.run(["restore", "bank", "--instance", "standby", "--as", "other"]);
    expect(ran).toMatchObject({ status: 2, stderr: expect.stringMatching(/is a standby[\s\S]*primary/) });
  });
});
