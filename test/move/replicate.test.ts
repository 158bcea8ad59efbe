import { chmod, copyFile, mkdir, readdir, readFile, rmdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { feedNames } from "../../src/move/names.ts";
import { catchUpStep } from "../../src/move/steps/catch-up.ts";
import { replicateStep } from "../../src/move/steps/replicate.ts";
import { identifier } from "../../src/postgres/quote.ts";
import { makeCertificate } from "../support/certificate.ts";
import { eventually } from "../support/eventually.ts";
import { clustersOfFile, newDatabaseOn } from "./clusters.ts";
import { cutNetwork } from "./cut-network.ts";
import { application, type MoveWorldOptions, type TestMove, testMove } from "./support.ts";

const clusters = clustersOfFile({
  target: { settings: { log_statement: "all", log_min_duration_statement: "0" } },
});
const newDatabase = newDatabaseOn(clusters);

/** A database of its own on both, with more than the application's tables on both; the move of it. */
async function moveOf(more = "", options: MoveWorldOptions = {}): Promise<TestMove & { database: string }> {
  const database = await newDatabase();
  if (more !== "") await both(database, `SET ROLE ${application.user}; ${more}`);
  const move = await testMove(clusters, { database, ...options });
  // The workers of a server are few.
  const last = await testMove(clusters, { database, id: move.context.move.id });
  onTestFinished(() => last.undo(replicateStep));
  return { ...move, database };
}

async function both(database: string, sql: string): Promise<void> {
  await Promise.all([clusters.source.psql(sql, database), clusters.target.psql(sql, database)]);
}

/** The rows of a table on both sides, as text and in order. */
async function rowsOf(database: string, table: string): Promise<{ source: string; target: string }> {
  const sql = `SELECT t::text FROM ${table} AS t ORDER BY 1`;
  const [source, target] = await Promise.all([
    clusters.source.psql(sql, database),
    clusters.target.psql(sql, database),
  ]);
  return { source, target };
}

async function expectSame(database: string, ...tables: string[]): Promise<void> {
  for (const table of tables) {
    const { source, target } = await rowsOf(database, table);
    expect(target, table).toBe(source);
    expect(source, table).not.toBe("");
  }
}

describe("the initial copy", () => {
  test("carries every row, in binary form where all types are PostgreSQL's own", async () => {
    const { database, run, plans } = await moveOf();
    await run(replicateStep);
    expect(plans.get("replicate")).toMatchObject({ binary: true });
    expect(await clusters.target.psql("SELECT subbinary FROM pg_subscription", database)).toContain("t");
    await expectSame(database, "teams", "audit.entries");
  });

  test("carries partitions, generated columns and types of the user's own, as text", async () => {
    const { database, run, plans } = await moveOf(
      `CREATE TYPE mood AS ENUM ('low', 'high'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
       CREATE TABLE parts (id int, mood mood[], n positive, twice int GENERATED ALWAYS AS (id * 2) STORED, PRIMARY KEY (id))
         PARTITION BY RANGE (id);
       CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
       CREATE TABLE "Parts 2" PARTITION OF parts FOR VALUES FROM (10) TO (20);`,
    );
    const insert = "INSERT INTO parts SELECT n, ARRAY['low', 'high']::mood[], n + 1 FROM generate_series(%) n";
    await clusters.source.psql(insert.replace("%", "1, 15"), database);
    await run(replicateStep);
    await clusters.source.psql(insert.replace("%", "16, 19"), database);
    await run(catchUpStep);
    expect(plans.get("replicate")).toMatchObject({ binary: false });
    await expectSame(database, "parts", "parts_1", '"Parts 2"');
  });

  test("leaves an extension's own rows alone, and carries the user's", async () => {
    const { database, run } = await moveOf();
    await both(
      database,
      `CREATE EXTENSION hstore; CREATE TABLE rates (name text PRIMARY KEY, builtin bool);
       INSERT INTO rates VALUES ('zero', true); ALTER EXTENSION hstore ADD TABLE rates;
       UPDATE pg_extension SET extconfig = ARRAY['rates'::regclass::oid], extcondition = ARRAY['WHERE NOT builtin'] WHERE extname = 'hstore'`,
    );
    await clusters.source.psql("INSERT INTO rates VALUES ('mine', false)", database);
    await run(replicateStep);
    await expectSame(database, "rates");
  });

  test("begins again where it was cut, and has no row twice", async () => {
    const stop = new AbortController();
    const { context, database, plans } = await moveOf("", { signal: stop.signal });
    const blocker = await clusters.target.connect(database);
    await blocker.query("BEGIN; LOCK TABLE teams IN SHARE MODE");
    const plan = await replicateStep.prepare?.(context);
    if (plan === undefined) throw new Error("it has a plan");
    const running = replicateStep.run(context, plan);
    await eventually(async () => {
      const copied = await clusters.target.psql(
        "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate = 'r'",
        database,
      );
      expect(Number(copied)).toBe(plan.tables.length - 1);
    });
    stop.abort(new Error("killed"));
    await expect(running).rejects.toThrow(/killed|aborted/);
    const again = await testMove(clusters, { database, id: context.move.id });
    for (const [name, known] of [["replicate", plan], ...plans] as const) again.plans.set(name, known);
    expect(await again.check(replicateStep)).toBe("partial");
    await blocker.end();
    await again.run(replicateStep);
    await expectSame(database, "teams", "audit.entries");
  });

  test("never empties tables of a database that others may be using", async () => {
    const { database, run } = await moveOf();
    await clusters.target.psql(
      `INSERT INTO teams VALUES (1, 'theirs'); ALTER DATABASE ${identifier(database)} CONNECTION LIMIT 5`,
      database,
    );
    await expect(run(replicateStep)).rejects.toMatchObject({ code: "refused-overwrite", message: /"public"."teams"/ });
    expect(await clusters.target.psql("SELECT name FROM teams", database)).toBe("theirs");
  });
});

describe("a table that cannot be followed is refused, and nothing was changed", () => {
  test.each([
    [
      "without a primary key",
      "CREATE TABLE bare (x int)",
      /public.bare/,
      /ALTER TABLE "public"."bare" REPLICA IDENTITY FULL/,
    ],
    [
      "with a deferrable one",
      "CREATE TABLE late (x int PRIMARY KEY DEFERRABLE)",
      /public.late/,
      /ALTER TABLE "public"."late" REPLICA IDENTITY FULL/,
    ],
    ["that is unlogged", "CREATE UNLOGGED TABLE quick (x int PRIMARY KEY)", /public.quick/, /SET LOGGED/],
  ])("%s", async (_, sql, message, hint) => {
    const { run, check } = await moveOf(sql);
    await expect(run(replicateStep)).rejects.toMatchObject({ code: "move-refused", message, hint });
    expect(await check(replicateStep)).toBe("todo");
  });

  test("and so is one that is not on the target", async () => {
    const { run, database } = await moveOf();
    await clusters.source.psql("CREATE TABLE late (x int PRIMARY KEY)", database);
    await expect(run(replicateStep)).rejects.toMatchObject({ code: "move-stopped", message: /"public"."late"/ });
  });
});

describe("the password of the subscription", () => {
  test("is in a file that only the server reads, and in no log; undoing removes it", async () => {
    const { context, run, undo } = await moveOf();
    await run(replicateStep);
    const { forward } = feedNames(context.move);
    const conninfo = await clusters.target.psql(`SELECT subconninfo FROM pg_subscription WHERE subname = '${forward}'`);
    expect(conninfo).toMatch(/passfile=/);
    expect(conninfo).not.toContain(clusters.source.password);
    // Base backups leave out what begins with pgsql_tmp.
    const file = join(clusters.target.dataDir, `pgsql_tmp_${forward}.pass`);
    expect((await stat(file)).mode & 0o777).toBe(0o600);
    expect(await readFile(file, "utf8")).toContain(clusters.source.password);
    const log = await readFile(join(clusters.target.socketDir, "log"), "utf8");
    expect(log).toContain("pg_subscription_rel");
    expect(log).not.toContain(clusters.source.password);
    await undo(replicateStep);
    expect((await readdir(clusters.target.dataDir)).filter((name) => name.includes(forward))).toEqual([]);
  });

  test("is in the connection string, with a warning and in no log, where no file can be written", async () => {
    const { context, run, undo, warnings } = await moveOf();
    const { forward } = feedNames(context.move);
    const inTheWay = join(clusters.target.dataDir, `pgsql_tmp_${forward}.pass`);
    await mkdir(inTheWay);
    await run(replicateStep);
    expect(warnings().join()).toMatch(/the password for shared stands in pg_subscription.subconninfo of dedicated/);
    expect(warnings().join()).not.toContain(clusters.source.password);
    const log = await readFile(join(clusters.target.socketDir, "log"), "utf8");
    expect(log).not.toContain(clusters.source.password);
    await rmdir(inTheWay);
    await undo(replicateStep);
  });
});

describe("undoing", () => {
  const nowhere = "host=127.0.0.1 port=1 dbname=none connect_timeout=1";
  test.each([
    ["a publication alone", (name: string) => ({ source: [`CREATE PUBLICATION ${name}`], target: [] as string[] })],
    [
      "a slot alone",
      (name: string) => ({ source: [`SELECT pg_create_logical_replication_slot('${name}', 'pgoutput')`], target: [] }),
    ],
    [
      "a subscription alone, which reaches no publisher",
      (name: string) => ({
        source: [],
        target: [
          `CREATE SUBSCRIPTION ${name} CONNECTION '${nowhere}' PUBLICATION ${name} WITH (connect = false, slot_name = '${name}')`,
          `ALTER SUBSCRIPTION ${name} ENABLE`,
        ],
      }),
    ],
  ])("removes %s", async (_, made) => {
    const { context, database, check, undo } = await moveOf();
    const { source, target } = made(feedNames(context.move).forward);
    for (const sql of source) await clusters.source.psql(sql, database);
    for (const sql of target) await clusters.target.psql(sql, database);
    expect(await check(replicateStep)).toBe("partial");
    await undo(replicateStep);
    expect(await check(replicateStep)).toBe("todo");
  });

  test("removes the slots of copies that were under way", async () => {
    const stop = new AbortController();
    const { context, database } = await moveOf("", { signal: stop.signal });
    const blocker = await clusters.target.connect(database);
    await blocker.query("SELECT pg_advisory_lock(4)");
    // A lock on the table would be waited for before there is a slot.
    const slow = `CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN PERFORM pg_advisory_xact_lock(4); RETURN NEW; END $$;
      CREATE TRIGGER slow BEFORE INSERT ON teams FOR EACH ROW EXECUTE FUNCTION slow();
      ALTER TABLE teams ENABLE ALWAYS TRIGGER slow;`;
    await clusters.target.psql(slow, database);
    const plan = await replicateStep.prepare?.(context);
    if (plan === undefined) throw new Error("it has a plan");
    const running = replicateStep.run(context, plan);
    const slots = `SELECT count(*) FROM pg_replication_slots WHERE database = '${database}' AND slot_name LIKE '%sync%'`;
    await eventually(async () => expect(await clusters.source.psql(slots)).not.toBe("0"));
    stop.abort(new Error("killed"));
    await expect(running).rejects.toThrow(/killed|aborted/);
    const again = await testMove(clusters, { database, id: context.move.id });
    await again.undo(replicateStep);
    await blocker.end();
    const left = `SELECT count(*) FROM pg_replication_slots WHERE database = '${database}'`;
    expect(await clusters.source.psql(left)).toBe("0");
  });
});

describe("while it follows", () => {
  test("a schema that changes on the source stops the move, naming what and the way on", async () => {
    const { database, run } = await moveOf();
    const blocker = await clusters.target.connect(database);
    await blocker.query("BEGIN; LOCK TABLE teams IN SHARE MODE");
    const running = run(replicateStep);
    await Promise.all([
      expect(running).rejects.toMatchObject({
        code: "move-stopped",
        message: /table public.later was made; table public.teams was altered/,
        hint: /pgkit move rollback/,
      }),
      eventually(async () => {
        expect(await clusters.target.psql("SELECT count(*) FROM pg_subscription_rel", database)).toBe("3");
        await clusters.source.psql("ALTER TABLE teams ADD COLUMN motto text; CREATE TABLE later (x int)", database);
      }),
    ]);
    await blocker.end();
  });

  test("a row that is there already stops it, instead of an endless wait", async () => {
    const { database, run } = await moveOf();
    await run(replicateStep);
    await clusters.target.psql("INSERT INTO teams VALUES (999, 'in the way')", database);
    await clusters.source.psql("INSERT INTO teams VALUES (999, 'the real one')", database);
    await expect(run(catchUpStep)).rejects.toMatchObject({ code: "move-stopped", message: /fails again and again/ });
    await clusters.target.psql("DELETE FROM teams WHERE id = 999", database);
    await run(catchUpStep);
    await expectSame(database, "teams");
  });

  test("a target that takes no more rows stops it, naming the tables that are not copied", async () => {
    const { database, run } = await moveOf();
    const full = `CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS
      $$ BEGIN RAISE 'no space left on device' USING ERRCODE = 'disk_full'; END $$;
      CREATE TRIGGER no_space BEFORE INSERT ON audit.entries FOR EACH ROW EXECUTE FUNCTION no_space();
      ALTER TABLE audit.entries ENABLE ALWAYS TRIGGER no_space;`;
    await clusters.target.psql(full, database);
    await expect(run(replicateStep)).rejects.toMatchObject({ code: "move-stopped", message: /such as audit.entries/ });
    await clusters.target.psql("DROP TRIGGER no_space ON audit.entries", database);
    await run(replicateStep);
    await expectSame(database, "audit.entries");
  });

  test("goes by TLS where `peer` says so, and checks whom it speaks to", async () => {
    const certificate = await makeCertificate(clusters.source, "IP:127.0.0.1");
    for (const setting of ["ssl = on", "ssl_cert_file = 'server.crt'", "ssl_key_file = 'server.key'"]) {
      await clusters.source.psql(`ALTER SYSTEM SET ${setting}`);
    }
    await clusters.source.psql("SELECT pg_reload_conf()");
    const { database, context, ...move } = await moveOf();
    // As the target's server sees it: root of its own is not needed to read a certificate.
    const root = join(clusters.target.dataDir, "root.crt");
    await copyFile(certificate, root);
    await chmod(root, 0o644);
    const through = async (host: string) => {
      const { peer } = context.source;
      const safe = { ...peer, hosts: [{ host, port: clusters.source.port }], sslMode: "verify-full" as const };
      const source = { ...context.source, peer: { ...safe, parameters: { ...peer.parameters, sslrootcert: root } } };
      const plan = move.plans.get("replicate") ?? (await replicateStep.prepare?.(context));
      await replicateStep.run({ ...context, source }, plan as NonNullable<Parameters<typeof replicateStep.run>[1]>);
    };
    await expect(through("localhost"), "a name that the certificate has not").rejects.toMatchObject({
      message: expect.stringMatching(/server certificate for .* does not match host name "localhost"/),
    });
    await through("127.0.0.1");
    await expectSame(database, "teams");
    expect(
      await clusters.source.psql("SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)"),
    ).toBe("t");
  });

  test("a network that is cut and mended is caught up with", async () => {
    const network = await cutNetwork(clusters.source);
    const { database, run } = await moveOf("", { sourcePort: network.port });
    await run(replicateStep);
    network.cut();
    await clusters.source.psql("INSERT INTO teams (name) SELECT 'cut ' || n FROM generate_series(1, 100) n", database);
    const catching = run(catchUpStep);
    await eventually(async () => {
      const workers =
        "SELECT count(pid) FROM pg_stat_subscription s JOIN pg_database d ON d.datname = current_database() JOIN pg_subscription p ON p.oid = s.subid AND p.subdbid = d.oid";
      expect(await clusters.target.psql(workers, database)).toBe("0");
    });
    network.mend();
    await catching;
    await expectSame(database, "teams");
    await network.close();
  });
});
