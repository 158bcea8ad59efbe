import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { planCopies } from "../../src/move/copy-plan.ts";
import { copyTables } from "../../src/move/copy-tables.ts";
import { sourceTables } from "../../src/move/source-tables.ts";
import { stageOf } from "../../src/move/stage.ts";
import { buildIndexesStep } from "../../src/move/steps/build-indexes.ts";
import { copyDataStep } from "../../src/move/steps/copy-data.ts";
import type { Cluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { copied, copyUntil, undoAll } from "./copy-support.ts";
import { type MoveClusters, startMoveClusters, type TestMove, testMove } from "./support.ts";

let clusters: MoveClusters;
let move: TestMove;

beforeAll(async () => {
  clusters = await startMoveClusters();
  const { source } = clusters;
  await source.psql("CREATE DATABASE app");
  await source.psql(
    `CREATE TYPE mood AS ENUM ('sad', 'ok');
     CREATE TABLE big (id int PRIMARY KEY, note text, at timestamptz, cost numeric, feels mood);
     INSERT INTO big SELECT g, repeat(md5(g::text), 4), now() + g * interval '1 s', g / 7.0, 'ok' FROM generate_series(1, 40000) g;
     DELETE FROM big WHERE id % 3 = 0; UPDATE big SET note = 'again' WHERE id % 5 = 0;
     CREATE TABLE wide (id int REFERENCES big DEFERRABLE, kind regclass, words text[]);
     INSERT INTO wide SELECT id, 'big', ARRAY[note, NULL] FROM big LIMIT 5000;
     CREATE INDEX wide_words ON wide (words); CREATE INDEX big_at ON big (at); CREATE INDEX big_note ON big (note);`,
    "app",
  );
});
afterEach(async () => undoAll(move));
afterAll(async () => await clusters?.[Symbol.asyncDispose]());

async function offline(): Promise<TestMove> {
  move = await testMove(clusters, { database: "app", mode: "offline" });
  return move;
}

describe("the copy of the rows", () => {
  it("cuts a table into ranges of blocks that miss no row and take none twice, also of rows that were moved", async () => {
    await copyUntil(await offline(), "copy-schema");
    const tables = await move.context.session("source", sourceTables);
    // As if the table had been far smaller when its blocks were counted: the last range is open.
    const some = tables.map((table) => ({ ...table, bytes: table.bytes * 1000, blocks: Math.floor(table.blocks / 2) }));
    const copies = planCopies(some, 2);
    expect(copies.filter(({ table }) => table === "public.big").length).toBeGreaterThan(2);
    await move.context.session("source", async (session) => {
      await session.query("BEGIN ISOLATION LEVEL REPEATABLE READ");
      const [row] = await session.query<{ snapshot: string }>("SELECT pg_export_snapshot() AS snapshot");
      const { signal } = new AbortController();
      await copyTables(move.context, {
        copies,
        snapshot: row?.snapshot ?? "",
        signal,
        onBytes: () => undefined,
        onTable: () => undefined,
      });
    });
    expect((await copied(clusters.target, "app")).rows).toEqual((await copied(clusters.source, "app")).rows);
  });

  it.each(["source", "target"] as const)(
    "fails when its session on the %s is ended, shows nothing of it, and begins anew",
    async (side) => {
      await copyUntil(await offline(), "copy-schema");
      const blocker = await clusters.target.connect("app");
      await blocker.query("BEGIN; LOCK TABLE big IN SHARE MODE");
      const running = move.run(copyDataStep);
      running.catch(() => undefined);
      const query = side === "source" ? "SET TRANSACTION SNAPSHOT" : "TRUNCATE ONLY";
      await eventually(async () => {
        const waiting =
          "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^TRUNCATE ONLY' AND wait_event_type = 'Lock'";
        expect(await clusters.target.psql(waiting)).toBe("1");
        const ended = `SELECT DISTINCT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ '^${query}'`;
        expect(await clusters[side].psql(ended)).toBe("t");
      });
      await blocker.query("COMMIT");
      await blocker.end();
      await expect(running).rejects.toMatchObject({ code: "postgres-unreachable" });
      expect(await stageOf(move.context)).toBe("schema copied");
      await clusters.target.psql("INSERT INTO wide SELECT -1 FROM generate_series(1, 10)", "app");
      expect(await move.check(copyDataStep)).toBe("partial");
      await move.run(copyDataStep);
      expect((await copied(clusters.target, "app")).rows).toEqual((await copied(clusters.source, "app")).rows);
    },
  );

  it("builds the big indexes of a table while another is still copied, and drops them with the rows", async () => {
    await copyUntil(await offline(), "copy-schema");
    const blocker = await clusters.target.connect("app");
    await blocker.query("BEGIN; LOCK TABLE wide IN SHARE MODE");
    const running = move.run(copyDataStep);
    running.catch(() => undefined);
    const indexes = () =>
      clusters.target.psql("SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'big'::regclass", "app");
    await eventually(async () => expect(await indexes()).toBe("big_note"));
    await blocker.query("COMMIT");
    await blocker.end();
    await running;
    await move.undo(copyDataStep);
    expect(await indexes()).toBe("");
  });

  it("ends within moments when the move is stopped", async () => {
    await copyUntil(await offline(), "copy-schema");
    const stop = new AbortController();
    const blocker = await clusters.target.connect("app");
    await blocker.query("BEGIN; LOCK TABLE big IN SHARE MODE");
    const context = { ...move.context, signal: stop.signal };
    const running = copyDataStep.run(context, { bytes: 0 });
    running.catch(() => undefined);
    await eventually(async () => {
      expect(await clusters.target.psql("SELECT count(*) FROM pg_locks WHERE NOT granted")).not.toBe("0");
    });
    stop.abort(new Error("stopped"));
    await expect(running).rejects.toThrow("stopped");
    await blocker.end();
    await move.run(copyDataStep);
    expect((await copied(clusters.target, "app")).rows).toEqual((await copied(clusters.source, "app")).rows);
  });

  it("says that the target's disk is full, and the database stays closed", async () => {
    await using full = await clusterWithSmallDisk();
    const { source } = clusters;
    const folder = await mkdtemp(join(tmpdir(), "pgkit-space-"));
    const { runAs } = source;
    if (runAs !== undefined) await chown(folder, runAs.uid, runAs.gid);
    await source.psql(`CREATE TABLESPACE small LOCATION '${folder}'`);
    await source.psql("ALTER DATABASE app SET TABLESPACE small");
    await source.psql(
      "CREATE TABLE padding AS SELECT g, repeat(md5(g::text), 30) AS v FROM generate_series(1, 30000) g",
      "app",
    );
    move = await testMove({ ...clusters, target: full.cluster }, { database: "app", mode: "offline" });
    await copyUntil(move, "copy-schema");
    await expect(move.run(copyDataStep)).rejects.toMatchObject({
      code: "disk-full",
      hint: expect.stringMatching(/free (disk )?space/),
    });
    expect(await full.cluster.psql("SELECT datconnlimit FROM pg_database WHERE datname = 'app'")).toBe("0");
    expect(await stageOf(move.context)).toBe("schema copied");
    await source.psql("DROP TABLE padding", "app");
    // With room again it goes on as if nothing had been.
    await move.run(copyDataStep);
    expect(await full.cluster.psql("SELECT count(*) FROM big", "app")).toBe(
      await source.psql("SELECT count(*) FROM big", "app"),
    );
    await undoAll(move);
    // What is undone after the test is another move's: this one's target is gone by then.
    await offline();
    await source.psql("ALTER DATABASE app SET TABLESPACE pg_default");
    await source.psql("DROP TABLESPACE small");
    await rm(folder, { recursive: true });
  });
});

describe("the building of indexes", () => {
  it("goes on after a cut with what is not there yet, and has all in the end", async () => {
    await copyUntil(await offline(), "copy-data");
    const { target } = clusters;
    const blocker = await target.connect("app");
    // CREATE INDEX gets its lock beside this one; a key does not.
    await blocker.query("BEGIN; LOCK TABLE big IN SHARE MODE");
    const running = move.run(buildIndexesStep);
    running.catch(() => undefined);
    await eventually(async () => {
      const waiting =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ 'PRIMARY KEY'";
      expect(await target.psql(waiting)).toBe("t");
    });
    await expect(running).rejects.toMatchObject({ code: "postgres-unreachable" });
    await blocker.query("COMMIT");
    await blocker.end();
    const indexes =
      "SELECT string_agg(oid::text, ' ' ORDER BY relname) FROM pg_class WHERE relname IN ('big_at', 'big_note', 'wide_words')";
    const before = await target.psql(indexes, "app");
    expect(before).not.toBe("");
    expect(await move.check(buildIndexesStep)).toBe("todo");
    await move.run(buildIndexesStep);
    expect((await target.psql(indexes, "app")).split(" ")).toEqual(expect.arrayContaining(before.split(" ")));
    expect(await copied(target, "app")).toEqual(await copied(clusters.source, "app"));
  });

  it("while a subscription follows, loses none of its changes", async () => {
    const { source, target } = clusters;
    move = await testMove(clusters, { database: "app", mode: "online" });
    await copyUntil(move, "copy-schema");
    await source.psql("CREATE PUBLICATION pgkit_move_test FOR TABLE big, wide", "app");
    const url = `host=${source.host} port=${source.port} user=${source.superuser} password=${source.password} dbname=app`;
    await target.psql(`CREATE SUBSCRIPTION pgkit_move_test CONNECTION '${url}' PUBLICATION pgkit_move_test`, "app");
    const stop = new AbortController();
    const writing = writeUntil(source, stop.signal);
    await eventually(async () => {
      expect(
        await target.psql("SELECT string_agg(DISTINCT srsubstate::text, '') FROM pg_subscription_rel", "app"),
      ).toBe("r");
    });
    await move.run(buildIndexesStep);
    stop.abort();
    await writing;
    await eventually(async () => {
      expect((await copied(target, "app")).rows).toEqual((await copied(source, "app")).rows);
    });
    expect(await target.psql("SELECT count(*) FROM pg_publication", "app")).toBe("0");
    await target.psql("DROP SUBSCRIPTION pgkit_move_test", "app");
    expect((await copied(target, "app")).schema).toEqual(
      (await copied(source, "app")).schema.filter((each) => !/pgkit_move/.test(each)),
    );
    await source.psql(
      "DROP PUBLICATION pgkit_move_test; DELETE FROM wide WHERE id > 40000; DELETE FROM big WHERE id > 40000",
      "app",
    );
  });
});

/** Transactions that hold locks on both tables, in either order, as applications do. */
async function writeUntil(cluster: Cluster, signal: AbortSignal): Promise<void> {
  const client = await cluster.connect("app");
  for (let id = 50_000; !signal.aborted; id++) {
    await client.query(
      `BEGIN; INSERT INTO big (id, note) VALUES (${id}, 'written'); INSERT INTO wide VALUES (${id}, NULL, '{a}'); COMMIT`,
    );
  }
  await client.end();
}

/** A server with a tablespace `small` on a disk of 24 MB; enough of a cluster for a target. */
async function clusterWithSmallDisk(): Promise<{ cluster: Cluster } & AsyncDisposable> {
  const folder = await mkdtemp(join(tmpdir(), "pgkit-small-"));
  await chmod(folder, 0o755);
  const script = `mount -t tmpfs -o size=24m,mode=755 none ${folder}; exec "$@"`;
  const own = join(import.meta.dirname, "../faults/cluster-in-namespace.ts");
  const under = ["--mount", "--propagation", "private", "sh", "-euc", script, "sh", process.execPath, own, folder];
  const child = spawn("unshare", under, { stdio: ["pipe", "pipe", "inherit"] });
  const [line] = await Promise.race([once(child.stdout, "data"), once(child, "exit")]);
  const url = new URL(String(line).trim());
  const psql = async (sql: string, database = "postgres") => {
    const client = new pg.Client({ connectionString: `${url.href.slice(0, url.href.lastIndexOf("/"))}/${database}` });
    await client.connect();
    const { rows } = await client.query({ text: sql, rowMode: "array" });
    await client.end();
    return rows.map((row: unknown[]) => row.join("|")).join("\n");
  };
  const { superuser, programs, major } = clusters.target;
  const at = { superuser, password: decodeURIComponent(url.password), host: url.hostname, port: Number(url.port) };
  return {
    cluster: { ...clusters.target, ...at, programs, major, psql },
    [Symbol.asyncDispose]: async () => {
      const gone = once(child, "exit");
      child.stdin.end();
      await gone;
      await rm(folder, { recursive: true });
    },
  };
}
