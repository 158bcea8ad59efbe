import pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { secret } from "../../src/lib/secret.ts";
import { unmark } from "../../src/move/stage.ts";
import { buildIndexesStep } from "../../src/move/steps/build-indexes.ts";
import { copyDataStep } from "../../src/move/steps/copy-data.ts";
import { copyRolesStep } from "../../src/move/steps/copy-roles.ts";
import { copySchemaStep } from "../../src/move/steps/copy-schema.ts";
import { createDatabaseStep } from "../../src/move/steps/create-database.ts";
import { parseConnection } from "../../src/postgres/connection.ts";
import { withSession } from "../../src/postgres/session.ts";
import { copied, copyUntil, knowsPassword, undoAll } from "./copy-support.ts";
import {
  application,
  applicationUrl,
  type MoveClusters,
  makeApplication,
  startMoveClusters,
  stepLifecycle,
  type TestMove,
  testMove,
} from "./support.ts";

let clusters: MoveClusters;
let move: TestMove;

beforeAll(async () => {
  clusters = await startMoveClusters();
  const { source } = clusters;
  await makeApplication(source);
  await source.psql(
    `CREATE ROLE litellm_group; GRANT litellm_group TO ${application.user};
     ALTER ROLE ${application.user} SET search_path = public, audit; COMMENT ON DATABASE litellm IS 'the gateway''s';
     ALTER DATABASE litellm SET default_transaction_read_only = on`,
  );
  await source.psql(
    `SET transaction_read_only = off; CREATE TABLE loose (a int, b text); INSERT INTO loose SELECT g, 'row ' || g FROM generate_series(1, 300) g;
     CREATE INDEX loose_b ON loose (b); CREATE TABLE parts (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
     CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01'); INSERT INTO parts VALUES (1, '2026-05-05');
     CREATE MATERIALIZED VIEW counted AS SELECT count(*) AS rows FROM loose; CREATE UNIQUE INDEX ON counted (rows);
     CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
     CREATE TRIGGER noted BEFORE INSERT ON loose FOR EACH ROW EXECUTE FUNCTION noted();
     CREATE POLICY narrow ON loose USING (a > 0); CREATE RULE none AS ON DELETE TO loose DO INSTEAD NOTHING;
     CREATE STATISTICS both_columns ON a, b FROM loose; SELECT lo_from_bytea(4711, 'large');`,
    "litellm",
  );
});
afterEach(async () => undoAll(move));
afterAll(async () => await clusters?.[Symbol.asyncDispose]());

/** With what can be asked of the target before, for a step that is to be tried. */
async function offline(options: Parameters<typeof testMove>[1] = {}): Promise<TestMove> {
  move = await testMove(clusters, { mode: "offline", ...options });
  return move;
}

describe("every step can be repeated and undone", () => {
  it("copy-roles", async () => {
    await offline();
    const { target } = clusters;
    const roles = () => target.psql("SELECT count(*) FROM pg_roles WHERE rolname ~ '^litellm'");
    await stepLifecycle(move, copyRolesStep, {
      done: async () => expect(await roles()).toBe("2"),
      undone: async () => expect(await roles()).toBe("0"),
    });
  });

  it("create-database", async () => {
    await copyUntil(await offline(), "copy-roles");
    const databases = () => clusters.target.psql("SELECT datname FROM pg_database WHERE datname ~ 'litellm|pgkit'");
    await stepLifecycle(move, createDatabaseStep, {
      done: async () => expect(await databases()).toBe("litellm"),
      undone: async () => expect(await databases()).toBe(""),
    });
  });

  it("copy-schema", async () => {
    await copyUntil(await offline(), "create-database");
    await stepLifecycle(move, copySchemaStep, {
      done: async () => expect(await tables()).toContain("audit.entries\n"),
      undone: async () => expect(await tables()).toBe(""),
    });
  });

  it("copy-data", async () => {
    await copyUntil(await offline(), "copy-schema");
    const wanted = (await copied(clusters.source, "litellm")).rows;
    await stepLifecycle(move, copyDataStep, {
      done: async () => {
        expect({ ...(await copied(clusters.target, "litellm")).rows, "public.counted": "(300)" }).toEqual(wanted);
      },
      undone: async () => {
        const rows = await clusters.target.psql(
          "SELECT (SELECT count(*) FROM loose) + (SELECT count(*) FROM teams)",
          "litellm",
        );
        expect(rows).toBe("0");
        expect(await clusters.target.psql("SELECT count(*) FROM pg_largeobject", "litellm")).toBe("0");
      },
    });
  });

  it("build-indexes", async () => {
    await copyUntil(await offline(), "copy-data");
    const wanted = await copied(clusters.source, "litellm");
    await stepLifecycle(move, buildIndexesStep, {
      done: async () => expect(await copied(clusters.target, "litellm")).toEqual(wanted),
      undone: async () =>
        expect(
          await clusters.target.psql(
            `SELECT (SELECT count(*) FROM pg_indexes WHERE schemaname !~ '^pg_' AND tablename <> 'counted')
               + (SELECT count(*) FROM pg_constraint WHERE conrelid >= 16384 AND contype IN ('p', 'u', 'f'))
               + (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal) + (SELECT count(*) FROM pg_policy)`,
            "litellm",
          ),
        ).toBe("0"),
    });
  });
});

describe("the roles of a moved database", () => {
  it("are the same on the target: the application logs in with its password once the database is open", async () => {
    await copyUntil(await offline());
    const { target } = clusters;
    await expect(connect(applicationUrl(target, "litellm"))).rejects.toThrow(/too many connections/);
    await target.psql("ALTER DATABASE litellm CONNECTION LIMIT 20");
    const client = await connect(applicationUrl(target, "litellm"));
    const { rows } = await client.query(
      "SELECT current_setting('lock_timeout') AS wait, current_setting('search_path') AS path",
    );
    expect(rows).toEqual([{ wait: "9s", path: "public, audit" }]);
    await client.end();
    await unmark(move.context, move.context.planOf(createDatabaseStep)?.comment ?? null);
    const comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'litellm'";
    expect(await target.psql(comment)).toBe("the gateway's");
    await target.psql(`COMMENT ON DATABASE litellm IS 'pgkit move ${move.context.move.id}'`);
  });

  it("have the application's password out of what is switched where the source does not show it", async () => {
    const { source, target } = clusters;
    await source.psql("CREATE ROLE looker LOGIN PASSWORD 'looks'; GRANT CONNECT ON DATABASE litellm TO looker");
    await offline();
    await expectRefusal(
      copyRolesStep.prepare?.(asLooker(move.context)),
      /litellm_user would have no password on dedicated/,
    );
    const told = await testMove(clusters, {
      mode: "offline",
      switchers: [knowsPassword(application.user, application.password)],
    });
    const context = asLooker(told.context);
    const plan = await copyRolesStep.prepare?.(context);
    if (plan === undefined) throw new Error("no plan");
    await copyRolesStep.run(context, plan);
    const client = await connect(applicationUrl(target, "postgres"));
    await client.end();
    expect(told.warnings().join()).toMatch(/role looker would have no password/);
    await copyRolesStep.undo(context, plan, undefined);
    await source.psql("REVOKE CONNECT ON DATABASE litellm FROM looker; DROP ROLE looker");
    expect(await target.psql("SELECT rolname FROM pg_roles WHERE rolname ~ 'litellm|looker'")).toBe("");
  });

  it("stay as they are where the target has them, and one with another password is refused before anything is changed", async () => {
    const { target } = clusters;
    await target.psql(`CREATE ROLE ${application.user} LOGIN CONNECTION LIMIT 3 PASSWORD 'another'`);
    await offline();
    await expectRefusal(move.run(copyRolesStep), /litellm_user is on dedicated already and may have another password/);
    const known = await offline({ switchers: [knowsPassword(application.user, application.password)] });
    await expectRefusal(known.run(copyRolesStep), /litellm_user is on dedicated already and has another password/);
    expect(await target.psql("SELECT rolname FROM pg_roles WHERE rolname ~ '^litellm'")).toBe(application.user);
    await target.psql(`ALTER ROLE ${application.user} PASSWORD '${application.password.replaceAll("'", "''")}'`);
    await known.run(copyRolesStep);
    expect(known.warnings().join()).toMatch(/CONNECTION LIMIT is 3 instead of -1; settings is none/);
    expect(await target.psql(`SELECT rolconnlimit FROM pg_roles WHERE rolname = '${application.user}'`)).toBe("3");
    await undoAll(known);
    expect(await target.psql("SELECT rolname FROM pg_roles WHERE rolname ~ '^litellm'")).toBe(application.user);
    await target.psql(`DROP ROLE ${application.user}`);
  });

  it("that the move made stay on the way back where somebody has begun to use them", async () => {
    const { target } = clusters;
    await copyUntil(await offline(), "create-database");
    await target.psql("CREATE TABLE other (a int); GRANT SELECT ON other TO litellm_group");
    await undoAll(move);
    expect(await target.psql("SELECT rolname FROM pg_roles WHERE rolname ~ '^litellm'")).toBe("litellm_group");
    expect(move.warnings().join()).toMatch(
      /role litellm_group stays on dedicated: 1 objects or grants in database postgres/,
    );
    await target.psql("DROP TABLE other; DROP ROLE litellm_group");
  });
});

describe("a database of the same name on the target", () => {
  it("that the move has not made is refused, and never dropped", async () => {
    const { target } = clusters;
    await target.psql("CREATE DATABASE litellm");
    await target.psql("CREATE TABLE precious (a int)", "litellm");
    await copyUntil(await offline(), "copy-roles");
    await expect(move.run(createDatabaseStep)).rejects.toMatchObject({ code: "refused-overwrite" });
    await undoAll(move);
    const other = await testMove(clusters, { mode: "offline", id: "20261129T180000Z-ffff" });
    await target.psql("COMMENT ON DATABASE litellm IS 'pgkit move 20261129T180000Z-eeee'");
    await undoAll(other);
    expect(await target.psql("SELECT count(*) FROM precious", "litellm")).toBe("0");
    await target.psql("DROP DATABASE litellm");
  });

  it("that a killed run has left half made is made anew", async () => {
    const { target } = clusters;
    await copyUntil(await offline(), "copy-roles");
    await target.psql(`CREATE DATABASE "pgkit move ${move.context.move.id}"`);
    await move.run(createDatabaseStep);
    await target.psql("CREATE TABLE half (a int)", "litellm");
    move.plans.set("copy-schema", { subscriptions: [] });
    expect(await move.check(copySchemaStep)).toBe("partial");
    await move.run(copySchemaStep);
    expect(await tables()).not.toContain("half");
    expect(await target.psql("SELECT datname FROM pg_database WHERE datname ~ 'pgkit'")).toBe("");
  });
});

describe("the schema of an online move", () => {
  it("has the keys that a subscription needs, also of partitioned tables, and no other index", async () => {
    await copyUntil(await offline({ mode: "online" }), "copy-schema");
    const { target } = clusters;
    const keys = await target.psql(
      "SELECT indexrelid::regclass FROM pg_index WHERE indrelid >= 16384 AND indisvalid AND indexrelid::regclass::text !~ 'pg_toast' ORDER BY indexrelid::regclass::text",
      "litellm",
    );
    expect(keys.split("\n")).toEqual([
      "audit.entries_pkey",
      "ledger_pkey",
      "ledger_writer_n_key",
      "parts_1_pkey",
      "parts_pkey",
      "teams_name_key",
      "teams_pkey",
    ]);
  });

  it("is refused where a trigger would fire twice", async () => {
    const { source } = clusters;
    await source.psql("SET transaction_read_only = off; ALTER TABLE loose ENABLE ALWAYS TRIGGER noted", "litellm");
    await copyUntil(await offline({ mode: "online" }), "create-database");
    await expectRefusal(
      move.run(copySchemaStep),
      /trigger noted of table public.loose of litellm fires for replicated/,
    );
    await source.psql("SET transaction_read_only = off; ALTER TABLE loose ENABLE TRIGGER noted", "litellm");
  });
});

async function expectRefusal(work: Promise<unknown> | undefined, message: RegExp): Promise<void> {
  await expect(work).rejects.toMatchObject({ code: "move-refused", message: expect.stringMatching(message) });
}

async function tables(): Promise<string> {
  return await clusters.target.psql(
    "SELECT string_agg(oid::regclass || E'\\n', '' ORDER BY oid) FROM pg_class WHERE relkind = 'r' AND oid >= 16384",
    "litellm",
  );
}

async function connect(connectionString: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  return client;
}

/** The same move, with a user on the source that reads everything but passwords. */
function asLooker(context: TestMove["context"]): TestMove["context"] {
  const { source } = clusters;
  const url = `postgresql://looker@${source.host}:${source.port}/postgres?sslmode=disable`;
  const connection = parseConnection(url, secret("looks"));
  return {
    ...context,
    source: { ...context.source, connection },
    session: async (side, use, database) => {
      if (side === "target") return context.session(side, use, database);
      return withSession(connection, { database: database ?? "litellm" }, use);
    },
  };
}
