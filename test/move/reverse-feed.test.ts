import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, onTestFinished, test } from "vitest";
import { parseLsn } from "../../src/lib/lsn.ts";
import { feedNames } from "../../src/move/names.ts";
import { flushPosition, waitConfirmed } from "../../src/move/position.ts";
import { blockWritesStep } from "../../src/move/steps/block-writes.ts";
import { drainStep } from "../../src/move/steps/drain.ts";
import { replicateStep } from "../../src/move/steps/replicate.ts";
import { reverseFeedStep } from "../../src/move/steps/reverse-feed.ts";
import { unblockStep } from "../../src/move/steps/unblock.ts";
import { clustersOfFile, newDatabaseOn } from "./clusters.ts";
import { runThrough, undoAll } from "./online.ts";
import { application, applicationUrl, type MoveWorldOptions, type TestMove, testMove } from "./support.ts";
import { startWriter } from "./writer.ts";

const clusters = clustersOfFile();
const newDatabase = newDatabaseOn(clusters);
let database = "";
beforeEach(async () => {
  database = await newDatabase();
});

async function moveOf(more = "", options: MoveWorldOptions = {}): Promise<TestMove> {
  if (more !== "") await both(`SET ROLE ${application.user}; ${more}`);
  const move = await testMove(clusters, { database, pooled: true, ...options });
  onTestFinished(async () => {
    const last = await testMove(clusters, { database, id: move.context.move.id });
    await last.undo(reverseFeedStep);
    await last.undo(replicateStep);
    await move.close();
  });
  return move;
}

const both = (sql: string) => Promise.all([clusters.source.psql(sql, database), clusters.target.psql(sql, database)]);
const onSource = (sql: string) => clusters.source.psql(sql, database);
const asApplication = (sql: string) => clusters.target.psql(`SET ROLE ${application.user}; ${sql}`, database);

/** Until the source has what the target has now. */
async function fedBack({ context }: TestMove): Promise<void> {
  const lsn = await context.session("target", flushPosition);
  await waitConfirmed(context, { from: "target", name: feedNames(context.move).back, lsn });
}

describe("what the application writes on the target", () => {
  test("arrives on the closed source: rows, partitions, generated columns and TRUNCATE", async () => {
    const move = await moveOf(
      `CREATE TABLE parts (id int PRIMARY KEY, twice int GENERATED ALWAYS AS (id * 2) STORED) PARTITION BY RANGE (id);
       CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
       CREATE TABLE emptied (x int PRIMARY KEY);`,
    );
    await onSource("INSERT INTO emptied VALUES (1); INSERT INTO parts VALUES (1), (2)");
    await runThrough(move, unblockStep);
    await asApplication(
      `INSERT INTO teams (name) VALUES ('new'); UPDATE teams SET name = 'renamed' WHERE id = 1; DELETE FROM audit.entries WHERE team = 3;
       DELETE FROM teams WHERE id = 3; INSERT INTO parts VALUES (5); UPDATE parts SET id = 6 WHERE id = 1; TRUNCATE emptied;`,
    );
    await fedBack(move);
    expect(await onSource("SELECT id FROM teams WHERE name = 'new'")).toBe("53");
    expect(await onSource("SELECT name FROM teams WHERE id IN (1, 3)")).toBe("renamed");
    expect(await onSource("SELECT id, twice FROM parts ORDER BY id")).toBe("2|4\n5|10\n6|12");
    expect(await onSource("SELECT count(*) FROM emptied")).toBe("0");
    expect(await onSource("SELECT count(*) FROM audit.entries WHERE team = 3")).toBe("0");
    expect(await onSource(`SELECT datconnlimit FROM pg_database WHERE datname = '${database}'`)).toBe("0");
  });

  test("begins right behind the copy: no row of it goes back, and none goes round", async () => {
    const move = await moveOf();
    await runThrough(move, unblockStep);
    const written = () =>
      Promise.all(
        (["source", "target"] as const).map((side) =>
          clusters[side].psql("SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables", database),
        ),
      );
    const [source] = await written();
    await fedBack(move);
    expect((await written())[0]).toBe(source);
    await asApplication("INSERT INTO teams (name) VALUES ('once')");
    await fedBack(move);
    expect(await onSource("SELECT count(*) FROM teams")).toBe("21");
    expect(await asApplication("SELECT count(*) FROM teams")).toBe("21");
    expect(await onSource("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()")).toBe("0");
  });

  test("also in a table without a primary key, which has a replica identity until the move is finished", async () => {
    const move = await moveOf("CREATE TABLE bare (x int, t text)", { mode: "offline" });
    await move.run(blockWritesStep);
    await move.run(reverseFeedStep);
    await move.run(unblockStep);
    await asApplication(
      "INSERT INTO bare VALUES (1, 'a'), (2, 'b'); UPDATE bare SET t = 'c' WHERE x = 2; DELETE FROM bare WHERE x = 1",
    );
    await fedBack(move);
    expect(await onSource("SELECT x, t FROM bare")).toBe("2|c");
    await move.undo(reverseFeedStep);
    expect(await asApplication("SELECT relreplident FROM pg_class WHERE relname = 'bare'")).toBe("d");
  });

  test("goes by a file with the password on the source, which is removed", async () => {
    const move = await moveOf();
    await runThrough(move, reverseFeedStep);
    const { back } = feedNames(move.context.move);
    const file = `pgsql_tmp_${back}.pass`;
    expect(await readFile(join(clusters.source.dataDir, file), "utf8")).toContain(clusters.target.password);
    await move.undo(reverseFeedStep);
    expect(await readdir(clusters.source.dataDir)).not.toContain(file);
  });
});

describe("the way back", () => {
  test("begins where the target cannot be closed: then it stays open, and nothing has changed", async () => {
    const move = await moveOf();
    await runThrough(move, unblockStep);
    await onSource("ALTER TABLE teams ADD CONSTRAINT never CHECK (name <> 'unwelcome')");
    await asApplication("INSERT INTO teams (name) VALUES ('unwelcome')");
    await expect(move.undo(unblockStep)).rejects.toMatchObject({
      code: "move-stopped",
      message: /fails again and again/,
    });
    expect(await asApplication(`SELECT datconnlimit FROM pg_database WHERE datname = '${database}'`)).toBe("20");
    await onSource("ALTER TABLE teams DROP CONSTRAINT never");
    await move.undo(unblockStep);
    expect(await onSource("SELECT count(*) FROM teams WHERE name = 'unwelcome'")).toBe("1");
  });

  test("is refused where a table came on the target that the source does not have", async () => {
    const move = await moveOf();
    await runThrough(move, unblockStep);
    await asApplication("CREATE TABLE migrated (x int PRIMARY KEY); INSERT INTO migrated VALUES (1)");
    await expect(move.undo(unblockStep)).rejects.toMatchObject({
      message: /table public.migrated was made/,
      hint: /finish/,
    });
    expect(await asApplication(`SELECT datconnlimit FROM pg_database WHERE datname = '${database}'`)).toBe("20");
    await asApplication("DROP TABLE migrated");
    await move.undo(unblockStep);
  });

  test("is refused without a feed, and the feed is not set up where nobody wants it", async () => {
    const move = await moveOf("", { reverseFeed: false });
    await runThrough(move, unblockStep);
    expect(await asApplication("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()")).toBe(
      "0",
    );
    await expect(move.undo(unblockStep)).rejects.toMatchObject({ code: "move-refused", message: /there is no feed/ });
  });

  test("values of sequences that the target gave out are not given out by the source again", async () => {
    const move = await moveOf();
    await runThrough(move, unblockStep);
    const id = Number(await asApplication("INSERT INTO teams (name) VALUES ('there') RETURNING id"));
    await undoAll(move);
    expect(Number(await onSource("INSERT INTO teams (name) VALUES ('here again') RETURNING id"))).toBeGreaterThan(id);
  });
});

describe("a drain", () => {
  test("has what the application committed without waiting for the disk, and goes on following when it is undone", async () => {
    const move = await moveOf();
    await onSource(`ALTER ROLE ${application.user} SET synchronous_commit = off`);
    onTestFinished(async () => void (await onSource(`ALTER ROLE ${application.user} RESET synchronous_commit`)));
    const writer = startWriter({ url: () => applicationUrl(clusters.source, database) });
    await writer.more(20);
    await runThrough(move, drainStep);
    await writer.stop();
    const there = await asApplication("SELECT n FROM ledger ORDER BY n");
    const numbers = new Set(there.split("\n").map(Number));
    expect(writer.acknowledged.filter((n) => !numbers.has(n))).toEqual([]);
    await move.undo(drainStep);
    await move.undo(blockWritesStep);
    await onSource("INSERT INTO teams (name) VALUES ('after it')");
    const lsn = await onSource("SELECT pg_current_wal_insert_lsn()");
    await waitConfirmed(move.context, {
      from: "source",
      name: feedNames(move.context.move).forward,
      lsn: parseLsn(lsn),
    });
    expect(await asApplication("SELECT count(*) FROM teams WHERE name = 'after it'")).toBe("1");
  });

  test("finds what was altered just before the block", async () => {
    const move = await moveOf();
    await runThrough(move, blockWritesStep);
    await onSource("CREATE TABLE late (x int)");
    await expect(move.run(drainStep)).rejects.toMatchObject({
      code: "move-stopped",
      message: /table public.late was made/,
    });
  });
});
