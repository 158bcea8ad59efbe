import { beforeAll, describe, expect, test } from "vitest";
import { PgkitError } from "../../src/lib/errors.ts";
import { secret } from "../../src/lib/secret.ts";
import { type Known, know } from "../../src/move/preflight/known.ts";
import { placeRisks } from "../../src/move/preflight/place.ts";
import { type Assessment, assess } from "../../src/move/preflight.ts";
import type { MoveContext, Risk } from "../../src/move/step.ts";
import { preflightStep } from "../../src/move/steps/preflight.ts";
import type { Endpoint, Switcher } from "../../src/switch/switcher.ts";
import { clustersOfFile } from "./clusters.ts";
import { application, makeApplication, testMove } from "./support.ts";

const clusters = clustersOfFile();
beforeAll(async () => {
  await makeApplication(clusters.source);
});

test("an application's database without anything special can be moved online, and nothing is changed by asking", async () => {
  const { context } = await testMove(clusters, { switchers: [switcherAt(clusters.source)] });
  const before = await stateOf();
  const { risks, way, estimates } = await assess(context);
  expect(risks).toEqual([]);
  expect(way).toEqual({ possible: "online", because: [] });
  expect(estimates).toMatchObject({ tables: 3, blockMs: expect.any(Number) });
  expect(estimates.bytes).toBeGreaterThan(1_000_000);
  expect(await stateOf()).toEqual(before);
});

interface Provoked {
  name: string;
  /** Run on this side before, in the moved database where not said otherwise. */
  on?: "source" | "target";
  sql: string;
  database?: string;
  level: Risk["level"];
  message: RegExp;
  hint: RegExp;
  mode?: "online" | "offline";
  /** What makes it go away; `hint`: the first statement of the hint itself. */
  remedy?: string | "hint";
  /** Puts things back where no remedy did. */
  undo?: string;
  /** Only told online. */
  offlineWorks?: true;
}

const provoked: Provoked[] = [
  {
    name: "a table without primary key",
    sql: "CREATE TABLE bare (a int)",
    ...{ level: "refusal", message: /table public\.bare has no replica identity/, offlineWorks: true },
    hint: /^ALTER TABLE public\.bare REPLICA IDENTITY FULL, or better .* ADD PRIMARY KEY .*--offline$/,
    ...{ remedy: "ALTER TABLE public.bare REPLICA IDENTITY FULL", undo: "DROP TABLE bare" },
  },
  {
    name: "a table with a unique index that would do",
    sql: 'CREATE TABLE keyed (a int NOT NULL); CREATE UNIQUE INDEX "Odd" ON keyed (a)',
    ...{ level: "refusal", message: /table public\.keyed has no replica identity/, offlineWorks: true },
    hint: /^ALTER TABLE public\.keyed REPLICA IDENTITY USING INDEX "Odd"; or move it with --offline$/,
    ...{ remedy: "hint", undo: "DROP TABLE keyed" },
  },
  {
    name: "a table whose rows cannot be compared",
    sql: `CREATE DOMAIN place AS point; CREATE TABLE spots (a varchar(9), at place, j json[], x int[], s int4range); ALTER TABLE spots REPLICA IDENTITY FULL`,
    ...{
      level: "refusal",
      message: /rows of table public\.spots are told by all columns, and at, j cannot/,
      offlineWorks: true,
    },
    hint: /^give it a primary key: ALTER TABLE public\.spots ADD PRIMARY KEY .*--offline$/,
    ...{ remedy: "ALTER TABLE spots ADD PRIMARY KEY (a)", undo: "DROP TABLE spots; DROP DOMAIN place" },
  },
  {
    name: "an unlogged table",
    sql: "CREATE UNLOGGED TABLE scratch (a int PRIMARY KEY)",
    ...{ level: "refusal", message: /table public\.scratch is unlogged/, offlineWorks: true },
    ...{ hint: /^ALTER TABLE public\.scratch SET LOGGED;/, remedy: "hint", undo: "DROP TABLE scratch" },
  },
  {
    name: "a large object",
    sql: "SELECT lo_from_bytea(4711, 'x')",
    ...{ level: "refusal", message: /1 large objects, which are not replicated/, offlineWorks: true },
    ...{ hint: /--offline/, remedy: "SELECT lo_unlink(4711)" },
  },
  {
    name: "a publication",
    sql: "CREATE PUBLICATION news FOR ALL TABLES",
    ...{ level: "warning", message: /subscribers of the publications news stay/, hint: /by hand/ },
    remedy: "DROP PUBLICATION news",
  },
  {
    name: "a subscription",
    sql: "CREATE SUBSCRIPTION feed CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false, slot_name = NONE)",
    ...{
      level: "warning",
      message: /subscriptions are not moved: feed/,
      hint: /anew/,
      remedy: "DROP SUBSCRIPTION feed",
    },
  },
  {
    name: "a replication slot of the database",
    sql: "SELECT pg_create_logical_replication_slot('cdc', 'pgoutput')",
    ...{ level: "warning", message: /replication slots cdc are of this database/ },
    ...{ hint: /^SELECT pg_drop_replication_slot\('cdc'\)$/, remedy: "hint" },
  },
  {
    name: "an event trigger",
    sql: "CREATE FUNCTION ev() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER watcher ON ddl_command_end EXECUTE FUNCTION ev()",
    ...{ level: "warning", message: /event triggers watcher fire/, hint: /refuse/ },
    remedy: "DROP EVENT TRIGGER watcher; DROP FUNCTION ev()",
  },
  {
    name: "a foreign server",
    sql: "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER elsewhere FOREIGN DATA WRAPPER w",
    ...{ level: "warning", message: /must reach what the foreign servers elsewhere lead to/, hint: /host/ },
    remedy: "DROP SERVER elsewhere; DROP FOREIGN DATA WRAPPER w",
  },
  {
    name: "a function in C",
    sql: "CREATE FUNCTION strange() RETURNS int LANGUAGE c AS '$libdir/plpgsql', 'plpgsql_call_handler'",
    ...{
      level: "warning",
      message: /functions in C need these libraries on dedicated: \$libdir\/plpgsql/,
      hint: /install/,
    },
    remedy: "DROP FUNCTION strange()",
  },
  {
    name: "the name is taken",
    ...{ on: "target", database: "postgres", sql: "CREATE DATABASE litellm" },
    ...{
      level: "refusal",
      message: /dedicated has a database litellm already/,
      hint: /^ALTER DATABASE "litellm" RENAME TO "litellm_old", or/,
    },
    ...{ remedy: "hint", undo: "DROP DATABASE litellm_old" },
  },
  {
    name: "a role of the same name that may do more",
    ...{ on: "target", database: "postgres", sql: "CREATE ROLE litellm_user BYPASSRLS PASSWORD 'other'" },
    level: "refusal",
    message: /role litellm_user already, which stays as it is: .*LOGIN is false there and true here, BYPASSRLS is true/,
    hint: /ALTER ROLE "litellm_user" .*LOGIN NOBYPASSRLS$/,
    remedy: 'ALTER ROLE "litellm_user" LOGIN NOBYPASSRLS',
  },
  {
    name: "a role of the same name with another password",
    ...{ on: "target", database: "postgres", sql: "SELECT 1" },
    ...{ level: "refusal", message: /role litellm_user already, (perhaps )?with another password/ },
    ...{ hint: /^DROP ROLE "litellm_user" there/, remedy: "DROP ROLE litellm_user" },
  },
  {
    name: "an application that is a superuser",
    ...{ database: "postgres", sql: "ALTER ROLE litellm_user SUPERUSER" },
    ...{
      level: "refusal",
      message: /litellm_user is a superuser on shared/,
      hint: /^ALTER ROLE "litellm_user" NOSUPERUSER,/,
    },
    remedy: "ALTER ROLE litellm_user NOSUPERUSER",
  },
  {
    name: "a role with objects in another database",
    ...{ database: "postgres", sql: "CREATE TABLE theirs (a int); ALTER TABLE theirs OWNER TO litellm_user" },
    ...{
      level: "warning",
      message: /role litellm_user has objects or grants in postgres of shared too/,
      hint: /it stays there/,
    },
    remedy: "DROP TABLE theirs",
  },
  {
    name: "WAL of slots is limited",
    ...{ database: "postgres", sql: "ALTER SYSTEM SET max_slot_wal_keep_size = '10GB'" },
    ...{
      level: "warning",
      message: /max_slot_wal_keep_size on shared is 10/,
      hint: /^ALTER SYSTEM SET max_slot_wal_keep_size = -1/,
    },
    offlineWorks: true,
    remedy: "ALTER SYSTEM SET max_slot_wal_keep_size = -1",
  },
];

describe("provoked all at once", () => {
  let online: Assessment;
  let offline: Assessment;
  const apply = async ({ on, database = "litellm" }: Provoked, sql: string) => {
    const cluster = on === "target" ? clusters.target : clusters.source;
    // ALTER SYSTEM and DROP DATABASE cannot be part of several statements in one.
    for (const statement of sql.includes("FUNCTION") ? [sql] : sql.split("; ")) await cluster.psql(statement, database);
    await cluster.psql("SELECT pg_reload_conf()");
  };
  const ask = async (mode: "online" | "offline") =>
    assess((await testMove(clusters, { switchers: [switcherAt(clusters.source)], mode })).context);

  beforeAll(async () => {
    for (const each of provoked) await apply(each, each.sql);
    [online, offline] = [await ask("online"), await ask("offline")];
  }, 300_000);

  test.each(provoked)("$name is told with its remedy", ({ level, message, hint, offlineWorks }) => {
    const risk = { level, message: expect.stringMatching(message), hint: expect.stringMatching(hint) };
    expect(online.risks).toContainEqual(risk);
    if (offlineWorks) expect(offline.risks).not.toContainEqual(risk);
    else expect(offline.risks).toContainEqual(risk);
  });

  test("nothing else is told", () => expect(online.risks).toHaveLength(provoked.length));

  test("the remedies make all of it go away", async () => {
    for (const each of provoked) {
      const { hint = "" } = online.risks.find(({ message }) => each.message.test(message)) ?? {};
      if (each.remedy !== undefined) await apply(each, each.remedy === "hint" ? statementIn(hint) : each.remedy);
    }
    expect((await ask("online")).risks).toEqual([]);
    for (const each of provoked) if (each.undo !== undefined) await apply(each, each.undo);
  });
});

test("where only replication is in the way, offline is said to work", async () => {
  await clusters.source.psql("CREATE TABLE bare (a int)", "litellm");
  const { context } = await testMove(clusters, { switchers: [switcherAt(clusters.source)] });
  const { way } = await assess(context);
  expect(way).toEqual({
    possible: "offline",
    because: [expect.stringMatching(/public\.bare has no replica identity/)],
  });
  await clusters.source.psql("DROP TABLE bare", "litellm");
});

/** The first statement of a hint. */
function statementIn(hint: string): string {
  return hint.split(/; or |, or /)[0] ?? hint;
}

test("all refusals come at once, before anything is changed", async () => {
  await clusters.source.psql("CREATE TABLE bare (a int); CREATE UNLOGGED TABLE scratch (a int PRIMARY KEY)", "litellm");
  const before = await stateOf();
  try {
    const move = await testMove(clusters, { switchers: [switcherAt(clusters.source)] });
    const error = await move.run(preflightStep).catch((failure: unknown) => failure);
    expect(error).toMatchObject({ code: "move-refused", exitStatus: 2 });
    expect((error as PgkitError).message).toMatch(
      /nothing was changed: 1\. table public\.bare .*; 2\. table public\.scratch/,
    );
    expect((error as PgkitError).hint).toMatch(
      /^1\. ALTER TABLE public\.bare .*; 2\. ALTER TABLE public\.scratch SET LOGGED/,
    );
    expect(await stateOf()).toEqual(before);
  } finally {
    await clusters.source.psql("DROP TABLE bare, scratch", "litellm");
  }
});

test("a prepared transaction is refused, and its end is the remedy", async () => {
  await clusters.source.restart({ max_prepared_transactions: "2" });
  await clusters.source.psql("BEGIN; INSERT INTO teams (name) VALUES ('late'); PREPARE TRANSACTION 'half'", "litellm");
  const { context } = await testMove(clusters, { switchers: [switcherAt(clusters.source)] });
  const { risks } = await assess(context);
  expect(risks[0]).toMatchObject({
    level: "refusal",
    message: expect.stringMatching(/prepared transaction is open: half/),
  });
  await clusters.source.psql("ROLLBACK PREPARED 'half'", "litellm");
  const after = (await assess(context)).risks;
  expect(after).toEqual([
    {
      level: "warning",
      message: expect.stringMatching(/max_prepared_transactions is 0 on dedicated and 2 on shared/),
      hint: expect.any(String),
    },
  ]);
  await clusters.source.restart({ max_prepared_transactions: "0" });
});

test("two clients in the database are told by name, and pgkit is none of them", async () => {
  const clients = await Promise.all(["web", "worker"].map((name) => clientNamed(name)));
  try {
    const { context } = await testMove(clusters, { switchers: [switcherAt(clusters.source)] });
    const { risks } = await assess(context);
    expect(risks).toContainEqual(
      expect.objectContaining({
        message: expect.stringMatching(/2 different clients .*litellm_user \(web\), litellm_user \(worker\)/),
      }),
    );
  } finally {
    for (const client of clients) await client.end();
  }
});

/** Both servers are of one machine here: what the other one would be, is changed in what is known of them. */
describe("a target that", () => {
  let known: Known;
  beforeAll(async () => {
    known = await know((await testMove(clusters)).context);
  });
  const withDatabase = (facts: Partial<Known["database"]>) => ({ ...known, database: { ...known.database, ...facts } });
  const told = (level: Risk["level"], message: RegExp, hint: RegExp) => [
    { level, message: expect.stringMatching(message), hint: expect.stringMatching(hint) },
  ];

  test("has too little disk is refused by what df says of it", async () => {
    const sizeBytes = 1e18;
    expect(await placeRisks(withDatabase({ sizeBytes }))).toEqual(
      told("refusal", /dedicated has .* of disk free, and the database takes/, /free space there/),
    );
  });

  test("does not know the locale is asked for it, and refused", async () => {
    const locale = { ...known.database.locale, collate: "tlh_KX.UTF-8", ctype: "tlh_KX.UTF-8" };
    expect(await placeRisks(withDatabase({ locale }))).toEqual(
      told("refusal", /dedicated does not know the locale tlh_KX\.UTF-8 of the database: /, /locale-gen/),
    );
  });

  test("lacks a tablespace takes its tables into the default one", async () => {
    expect(await placeRisks(withDatabase({ tablespaces: ["fast"] }))).toEqual(
      told("warning", /dedicated lacks the tablespaces fast/, /CREATE TABLESPACE "fast"/),
    );
  });
});

describe("what points the application", () => {
  test.each([
    ["is missing", [], "warning", /nothing points the application at its database/],
    ["does not answer", [failing()], "refusal", /it is gone/],
  ] as const)("%s", async (_, switchers, level, message) => {
    const { context } = await testMove(clusters, { switchers: [...switchers] });
    expect((await assess(context)).risks).toContainEqual({
      level,
      message: expect.stringMatching(message),
      hint: expect.any(String),
    });
  });

  test("points at another database, at the target, or at nobody knows what", async () => {
    const password = secret(application.password);
    const at = async (endpoint: Partial<Endpoint>) => {
      const { context } = await testMove(clusters, { switchers: [switcherAt(clusters.source, endpoint)] });
      return (await assess(context)).risks;
    };
    expect(await at({ database: "other" })).toMatchObject([
      {
        level: "warning",
        message: expect.stringMatching(/points at .*other.*, which could not be proven to be shared/),
      },
    ]);
    expect(await at({ host: "nowhere.invalid" })).toMatchObject([
      { level: "warning", message: expect.stringMatching(/nowhere.invalid.*could not be proven to be shared/) },
    ]);
    // Another spelling of the source's own address: found by its system id.
    expect(await at({ host: "localhost", user: application.user, password })).toEqual([]);
    const { host, port, superuser } = clusters.target;
    const target = { host, port, user: superuser, password: secret(clusters.target.password), database: "litellm" };
    await clusters.target.psql("CREATE DATABASE litellm");
    expect(await at(target)).toContainEqual(
      expect.objectContaining({
        level: "refusal",
        message: expect.stringMatching(/points at dedicated already/),
      }),
    );
    await clusters.target.psql("DROP DATABASE litellm");
  });

  test("passes its own remarks on", async () => {
    const plan = async () => ({
      does: [],
      refusals: [{ message: "ArgoCD would put it back", hint: "commit it" }],
      warnings: [],
    });
    const { context } = await testMove(clusters, { switchers: [{ ...switcherAt(clusters.source), plan }] });
    expect((await assess(context)).risks).toEqual([
      { level: "refusal", message: "ArgoCD would put it back", hint: "commit it" },
    ]);
  });
});

test("servers that do not reach each other are refused by name, without the password", async () => {
  const { context } = await testMove(clusters, { switchers: [switcherAt(clusters.source)] });
  const peer = { ...context.source.peer, password: secret("a wrong one") };
  const { risks } = await assess({ ...context, source: { ...context.source, peer } });
  expect(risks).toMatchObject([
    {
      level: "refusal",
      message: expect.stringMatching(/dedicated does not reach shared .*password authentication failed/s),
      hint: expect.stringMatching(/instances\.shared\.peer/),
    },
  ]);
  expect(JSON.stringify(risks)).not.toContain("a wrong one");
});

test("an older target, the same server, and too few workers are refused; the way back can be given up", async () => {
  const { context } = await testMove(clusters, { switchers: [switcherAt(clusters.source)] });
  const same = await assess({
    ...context,
    target: { ...context.source, instance: "again" },
    session: (_, use, database) => context.session("source", use, database),
  } as MoveContext);
  expect(same.risks.map(({ message }) => message)).toContainEqual(
    expect.stringMatching(/shared and again are the same server/),
  );
  expect(same.way.possible).toBe("none");
  await clusters.target.restart({ wal_level: "replica" });
  try {
    const { risks } = await assess(context);
    expect(risks).toMatchObject([
      {
        level: "refusal",
        message: expect.stringMatching(/wal_level is replica on dedicated/),
        hint: expect.stringMatching(/ALTER SYSTEM SET wal_level = 'logical', .*--without-reverse-feed/),
      },
    ]);
    const without = await testMove(clusters, { switchers: [switcherAt(clusters.source)], reverseFeed: false });
    expect((await assess(without.context)).risks).toMatchObject([
      { level: "warning", message: expect.stringMatching(/no way back/) },
    ]);
  } finally {
    await clusters.target.restart({ wal_level: "logical" });
  }
});

function switcherAt(cluster: { host: string; port: number }, other: Partial<Endpoint> = {}): Switcher {
  const endpoint = { host: cluster.host, port: cluster.port, database: "litellm", ...other };
  return { where: "the switch", kind: "command", current: async () => endpoint, point: async () => undefined };
}

function failing(): Switcher {
  const current = () => Promise.reject(new PgkitError("store-unreachable", "it is gone", { hint: "is it there?" }));
  return { where: "the switch", kind: "command", current, point: async () => undefined };
}

async function clientNamed(name: string) {
  const { default: pg } = await import("pg");
  const { host, port } = clusters.source;
  const login = { user: application.user, password: application.password, database: "litellm" };
  const client = new pg.Client({ host, port, ...login, application_name: name });
  await client.connect();
  return client;
}

/** Whatever a move could change on either server. */
async function stateOf(): Promise<string[]> {
  const sql = `SELECT json_build_object('databases', (SELECT json_agg(d ORDER BY datname) FROM (SELECT datname, datconnlimit, datacl::text FROM pg_database) d),
    'roles', (SELECT count(*) FROM pg_roles), 'slots', (SELECT count(*) FROM pg_replication_slots),
    'subscriptions', (SELECT count(*) FROM pg_subscription), 'files', (SELECT json_agg(f ORDER BY f) FROM pg_ls_dir('.') f WHERE f ~ 'pgkit|pass'))`;
  return [
    await clusters.source.psql(sql),
    await clusters.target.psql(sql),
    await clusters.source.psql("SELECT count(*) FROM pg_publication", "litellm"),
  ];
}
