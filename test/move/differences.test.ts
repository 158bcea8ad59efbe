import { afterAll, beforeAll, expect, test } from "vitest";
import { isPgkitError } from "../../src/lib/errors.ts";
import type { ProofReport } from "../../src/move/proof-report.ts";
import { folderOf, readProof } from "../../src/move/proof-store.ts";
import { differenceText } from "../../src/move/proof-text.ts";
import { compareStep } from "../../src/move/steps/compare.ts";
import { makeAlike } from "./alike.ts";
import { type MoveClusters, startMoveClusters, testMove } from "./support.ts";

const schema = `
CREATE SCHEMA s;
CREATE TYPE s.mood AS ENUM ('sad', 'ok');
CREATE TYPE s.pair AS (a int, b text);
CREATE DOMAIN s.positive AS int CONSTRAINT is_positive CHECK (VALUE > 0);
CREATE TABLE s.t (id int PRIMARY KEY, v text DEFAULT 'a', m s.mood, n int, CONSTRAINT n_small CHECK (n < 1000));
CREATE TABLE s.more (id int PRIMARY KEY, t int, CONSTRAINT more_t FOREIGN KEY (t) REFERENCES s.t NOT VALID);
CREATE TABLE s.rows (id int PRIMARY KEY, v text);
CREATE TABLE s.fewer (v text);
CREATE TABLE s.p (id int, at date) PARTITION BY RANGE (at);
CREATE TABLE s.p1 PARTITION OF s.p FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO s.t SELECT n, 'v' || n, 'ok', n FROM generate_series(1, 100) n;
INSERT INTO s.rows SELECT n, 'v' || n FROM generate_series(1, 100) n;
INSERT INTO s.fewer SELECT 'v' || n FROM generate_series(1, 100) n;
INSERT INTO s.p VALUES (1, '2026-02-03');
ALTER TABLE s.more VALIDATE CONSTRAINT more_t;
CREATE INDEX t_v ON s.t (v);
CREATE UNIQUE INDEX t_n ON s.t (n);
CREATE FUNCTION s.f(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 1';
CREATE FUNCTION s.tr() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER t_tr BEFORE UPDATE ON s.t FOR EACH ROW EXECUTE FUNCTION s.tr();
CREATE FUNCTION s.ev() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION s.ev();
CREATE AGGREGATE s.total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE VIEW s.v AS SELECT id FROM s.t;
CREATE MATERIALIZED VIEW s.mv AS SELECT id FROM s.t;
CREATE RULE r AS ON DELETE TO s.fewer WHERE false DO INSTEAD NOTHING;
CREATE POLICY pol ON s.t USING (n > 0);
ALTER TABLE s.t ENABLE ROW LEVEL SECURITY;
CREATE STATISTICS s.st (ndistinct) ON v, n FROM s.t;
CREATE SEQUENCE s.behind; SELECT setval('s.behind', 50);
CREATE SEQUENCE s.ahead; SELECT setval('s.ahead', 50);
CREATE SEQUENCE s.defined;
CREATE EXTENSION pgcrypto;
CREATE PUBLICATION pub FOR TABLE s.t;
CREATE FOREIGN DATA WRAPPER w; CREATE SERVER srv FOREIGN DATA WRAPPER w OPTIONS (host 'a');
CREATE USER MAPPING FOR litellm_user SERVER srv OPTIONS (password 'top secret one');
COMMENT ON TABLE s.t IS 'one';
GRANT SELECT ON s.t TO reader; GRANT SELECT (t) ON s.more TO reader; GRANT USAGE ON SCHEMA s TO reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT SELECT ON TABLES TO reader;
ALTER TABLE s.t SET (fillfactor = 90);
SELECT lo_from_bytea(4711, 'large');
CREATE CAST (s.pair AS int) WITH FUNCTION s.f2(s.pair);
CREATE COLLATION s.c (provider = libc, locale = 'C');
CREATE TEXT SEARCH CONFIGURATION s.ts (COPY = pg_catalog.english);
ALTER DATABASE d SET work_mem = '5MB';
ALTER ROLE litellm_user IN DATABASE d SET lock_timeout = '1s';
GRANT reader TO litellm_user;
ALTER TABLE s.rows OWNER TO litellm_user;
`.replace("CREATE CAST", "CREATE FUNCTION s.f2(s.pair) RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE CAST");

/** What is done on the target, and how the proof must tell it: the object with both values. */
const planted: [sql: string, told: RegExp][] = [
  [
    "UPDATE s.t SET v = 'another' WHERE id = 7",
    /table s\.t: checksum of the 100 rows is -?\d+ on the target, -?\d+ on the source/,
  ],
  ["DELETE FROM s.fewer WHERE v = 'v7'", /table s\.fewer: number of rows is 99 on the target, 100 on the source/],
  ["SELECT setval('s.behind', 49)", /sequence s\.behind: value is 49 on the target, 50 on the source/],
  ["SELECT lo_put(4711, 0, 'L')", /large objects all: number and checksum is 1 \S+ on the target, 1 \S+ on the source/],
  ["DROP INDEX s.t_v", /index s\.t_v is not on the target/],
  [
    "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 's.t_n'::regclass",
    /index s\.t_n: valid is false on the target, true on/,
  ],
  [
    "ALTER TABLE s.t DROP CONSTRAINT n_small, ADD CONSTRAINT n_small CHECK (n < 2000)",
    /constraint n_small on s\.t: definition is CHECK \(\(n < 2000\)\) on the target, CHECK \(\(n < 1000\)\) on/,
  ],
  [
    "UPDATE pg_constraint SET convalidated = false WHERE conname = 'more_t'",
    /constraint more_t on s\.more: validated is false on the target, true/,
  ],
  ["ALTER TABLE s.t DISABLE TRIGGER t_tr", /trigger t_tr on s\.t: enabled is D on the target, O on the source/],
  ["ALTER TABLE s.fewer DISABLE RULE r", /rule r on s\.fewer: enabled is D on the target, O on the source/],
  [
    "CREATE OR REPLACE FUNCTION s.f(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 2'",
    /function s\.f\(integer\): definition is .*\+ 2.* on the target, .*\+ 1/,
  ],
  [
    "CREATE OR REPLACE AGGREGATE s.total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '5')",
    /aggregate s\.total\(integer\): initial is 5 on the target, 0/,
  ],
  [
    "CREATE OR REPLACE VIEW s.v AS SELECT id FROM s.t WHERE n > 5",
    /view definition s\.v: definition is .*n > 5.* on the target, SELECT/,
  ],
  [
    "DROP MATERIALIZED VIEW s.mv; CREATE MATERIALIZED VIEW s.mv AS SELECT id FROM s.t WITH NO DATA",
    /relation s\.mv: populated is false on the target, true/,
  ],
  [
    "ALTER TYPE s.mood ADD VALUE 'happy'",
    /type s\.mood: labels is \["sad","ok","happy"\] on the target, \["sad","ok"\]/,
  ],
  ["ALTER TYPE s.pair ADD ATTRIBUTE c int", /type s\.pair: attributes is .*c integer.* on the target/],
  ["ALTER DOMAIN s.positive SET NOT NULL", /type s\.positive: NOT NULL is true on the target, false/],
  ["ALTER TABLE s.t ALTER v SET DEFAULT 'b'", /column s\.t\.v: default is 'b'::text on the target, 'a'::text/],
  ["ALTER TABLE s.more ADD extra int", /column s\.more\.extra is on the target only/],
  [
    "ALTER TABLE s.t SET (fillfactor = 80)",
    /relation s\.t: options is \["fillfactor=80"\] on the target, \["fillfactor=90"\]/,
  ],
  ["ALTER TABLE s.t DISABLE ROW LEVEL SECURITY", /relation s\.t: row security is false on the target, true/],
  ["ALTER POLICY pol ON s.t USING (n > 1)", /policy pol on s\.t: USING is \(n > 1\) on the target, \(n > 0\)/],
  ["ALTER STATISTICS s.st SET STATISTICS 99", /statistics object s\.st: statistics is 99 on the target, not there/],
  [
    "ALTER SEQUENCE s.defined MAXVALUE 99",
    /sequence definition s\.defined: maximum is 99 on the target, 9223372036854775807/,
  ],
  [
    "UPDATE pg_extension SET extversion = '1.2' WHERE extname = 'pgcrypto'",
    /extension pgcrypto: version is 1\.2 on the target, 1\.\d/,
  ],
  ["ALTER PUBLICATION pub SET (publish = 'insert')", /publication pub: update is false on the target, true/],
  [
    "ALTER SERVER srv OPTIONS (SET host 'b')",
    /foreign server srv: options is \["host=b"\] on the target, \["host=a"\]/,
  ],
  [
    "ALTER USER MAPPING FOR litellm_user SERVER srv OPTIONS (SET password 'top secret two')",
    /user mapping litellm_user on srv: options is one on the target, another one on/,
  ],
  ["COMMENT ON TABLE s.t IS 'two'", /comment table s\.t: text is two on the target, one on the source/],
  ["REVOKE SELECT ON s.t FROM reader", /grants on relation s\.t: granted is .* on the target, .*SELECT to reader/],
  ["GRANT INSERT ON s.t TO PUBLIC", /grants on relation s\.t: granted is .*INSERT to PUBLIC.* on the target/],
  ["REVOKE SELECT (t) ON s.more FROM reader", /grants on column s\.more\.t is not on the target/],
  ["GRANT CREATE ON SCHEMA s TO reader", /grants on schema s: granted is .*CREATE to reader.* on the target/],
  [
    "REVOKE EXECUTE ON FUNCTION s.f(int) FROM PUBLIC",
    /grants on function s\.f\(integer\): granted is \["EXECUTE to postgres"\] on the target, \["EXECUTE to PUBLIC"/,
  ],
  [
    "ALTER DEFAULT PRIVILEGES IN SCHEMA s GRANT INSERT ON TABLES TO reader",
    /default privileges of postgres for r in s: granted is .*INSERT to reader.* on the target/,
  ],
  ["ALTER EVENT TRIGGER e DISABLE", /event trigger e: enabled is D on the target, O/],
  ["DROP CAST (s.pair AS int)", /cast s\.pair AS integer is not on the target/],
  ["DROP COLLATION s.c", /collation s\.c is not on the target/],
  ["ALTER TEXT SEARCH CONFIGURATION s.ts DROP MAPPING FOR word", /text search configuration s\.ts: mapping is/],
  ["ALTER TABLE s.p DETACH PARTITION s.p1", /relation s\.p1: partition bound is not there on the target, FOR VALUES/],
  ["ALTER TABLE s.rows OWNER TO postgres", /relation s\.rows: owner is postgres on the target, litellm_user/],
  ["ALTER TABLE s.rows REPLICA IDENTITY FULL", /relation s\.rows: replica identity is f on the target, d/],
  ["ALTER DATABASE d SET work_mem = '6MB'", /settings of the database: work_mem is 6MB on the target, 5MB/],
  [
    "ALTER ROLE litellm_user IN DATABASE d SET lock_timeout = '2s'",
    /settings of role litellm_user in the database: lock_timeout is 2s on the target, 1s/,
  ],
  ["GRANT CONNECT ON DATABASE d TO PUBLIC", /database d: granted is .*CONNECT to PUBLIC.* on the target/],
  [
    "ALTER ROLE litellm_user PASSWORD 'top secret three'",
    /role litellm_user: password is one on the target, another one on the source/,
  ],
  ["ALTER ROLE litellm_user CREATEDB CONNECTION LIMIT 3", /role litellm_user: CREATEDB is true on the target, false/],
  [
    "ALTER ROLE reader SET statement_timeout = '3s'",
    /role reader: settings is {"statement_timeout": ?"3s"} on the target, not there/,
  ],
  ["REVOKE reader FROM litellm_user", /membership of litellm_user in reader is not on the target/],
];

let clusters: MoveClusters;
let proof: ProofReport;
let texts: string[];
let failure: unknown;

beforeAll(async () => {
  clusters = await startMoveClusters();
  const roles = "CREATE ROLE litellm_user LOGIN PASSWORD 'top secret'; CREATE ROLE reader";
  await makeAlike(clusters, "d", { roles, schema });
  await clusters.target.psql("SELECT setval('s.ahead', 82)", "d");
  for (const [sql] of planted) await clusters.target.psql(`SET allow_system_table_mods = on; ${sql}`, "d");
  const move = await testMove(clusters, { database: "d" });
  failure = await move.run(compareStep).catch((error: unknown) => error);
  const stored = await readProof(move.context.repository, folderOf(move.context.move));
  if (stored === undefined) throw new Error("no proof was stored");
  proof = stored;
  texts = proof.differences.map(differenceText);
}, 300_000);

afterAll(() => clusters[Symbol.asyncDispose]());

test.each(planted)("%s on the target is told", (_, told) => {
  expect(texts.map((text) => text.replaceAll(/\s+/g, " "))).toContainEqual(expect.stringMatching(told));
});

test("a difference stops the move before the switch, and the report of it is kept", () => {
  expect(isPgkitError(failure, "proof-failed")).toBe(true);
  expect(failure).toMatchObject({
    exitStatus: 40,
    message: expect.stringMatching(/^source and target of d differ: .*; and \d+ more$/s),
  });
  expect(proof.state).toBe("different");
});

test("no secret and no row is in the proof", () => {
  expect(JSON.stringify(proof)).not.toMatch(/top secret|SCRAM|'another'|[0-9a-f]{32}/);
});

test("a sequence that is further on than the source's is as it should be", () => {
  expect(texts.filter((text) => text.includes("ahead"))).toEqual([]);
});
