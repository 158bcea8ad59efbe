import { expect } from "vitest";
import { secret } from "../../src/lib/secret.ts";
import { systemClock } from "../../src/lib/time.ts";
import type { MoveContext, MoveFacts, MoveOptions, MoveServer, Side, Step } from "../../src/move/step.ts";
import { parseConnection } from "../../src/postgres/connection.ts";
import { identifier } from "../../src/postgres/quote.ts";
import { openSession, type Session, withSession } from "../../src/postgres/session.ts";
import { memoryStore } from "../../src/store/memory.ts";
import type { EndpointAddress, Switcher } from "../../src/switch/switcher.ts";
import { reports, repositoryIn } from "../repo/support.ts";
import { type Cluster, type ClusterOptions, startCluster } from "../support/cluster.ts";

/** Two servers that can feed each other. */
export interface MoveClusters {
  source: Cluster;
  target: Cluster;
  [Symbol.asyncDispose](): Promise<void>;
}

/** What logical replication needs in both directions; the short interval lets a worker that failed come back soon. */
export const logicalSettings = {
  wal_level: "logical",
  max_replication_slots: "20",
  max_wal_senders: "20",
  max_worker_processes: "24",
  max_logical_replication_workers: "12",
  wal_retrieve_retry_interval: "200ms",
};

/** Starts source and target; `options` of each over what logical replication needs. */
export async function startMoveClusters(
  options: { source?: ClusterOptions; target?: ClusterOptions } = {},
): Promise<MoveClusters> {
  const start = (own: ClusterOptions = {}) =>
    startCluster({ ...own, settings: { ...logicalSettings, ...own.settings } });
  const [source, target] = await Promise.all([start(options.source), start({ lineage: "target", ...options.target })]);
  return {
    ...{ source, target },
    [Symbol.asyncDispose]: async () => {
      await Promise.all([source[Symbol.asyncDispose](), target[Symbol.asyncDispose]()]);
    },
  };
}

/** How the application connects: `litellm_user`, the owner of its database. */
export const application = { user: "litellm_user", password: "app-secret:'\\ 1" };

/** Where the application connects, as it has it in its DATABASE_URL. */
export function applicationUrl(cluster: Cluster, database: string): string {
  const login = `${application.user}:${encodeURIComponent(application.password)}`;
  return `postgresql://${login}@${cluster.host}:${cluster.port}/${encodeURIComponent(database)}`;
}

/** The owner's role, where it is not there yet. */
export async function makeRole(cluster: Cluster): Promise<void> {
  const password = application.password.replaceAll("'", "''");
  await cluster.psql(
    `DO $do$ BEGIN CREATE ROLE ${application.user} LOGIN PASSWORD '${password}'; EXCEPTION WHEN duplicate_object THEN NULL; END $do$`,
  );
}

/**
 * The application's database on the source: closed to others, with a connection limit, settings, and some of everything
 * that a move must keep. `tables: false` leaves the tables out, as a target has it before the copy of the schema.
 */
export async function makeApplication(cluster: Cluster, database = "litellm"): Promise<void> {
  await makeRole(cluster);
  await cluster.psql(`CREATE DATABASE ${identifier(database)} OWNER ${application.user}`);
  await cluster.psql(
    `REVOKE CONNECT ON DATABASE ${identifier(database)} FROM PUBLIC;
     ALTER DATABASE ${identifier(database)} CONNECTION LIMIT 20;
     ALTER DATABASE ${identifier(database)} SET work_mem = '5MB';
     ALTER ROLE ${application.user} IN DATABASE ${identifier(database)} SET lock_timeout = '9s';`,
  );
  await cluster.psql(`SET ROLE ${application.user}; ${applicationSchema} ${applicationRows}`, database);
}

/** What `create-database` and `copy-schema` leave on the target: the closed database and its tables, empty. */
export async function makeEmptyTarget(cluster: Cluster, database = "litellm"): Promise<void> {
  await makeRole(cluster);
  await cluster.psql(`CREATE DATABASE ${identifier(database)} OWNER ${application.user} CONNECTION LIMIT 0`);
  await cluster.psql(`REVOKE CONNECT ON DATABASE ${identifier(database)} FROM PUBLIC`);
  await cluster.psql(`SET ROLE ${application.user}; ${applicationSchema}`, database);
}

/** `ledger` is the writer's: one row a transaction. */
export const applicationSchema = `
CREATE TABLE ledger (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, writer text NOT NULL, n bigint NOT NULL, UNIQUE (writer, n));
CREATE TABLE teams (id serial PRIMARY KEY, name text UNIQUE);
CREATE SCHEMA audit;
CREATE TABLE audit.entries (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(), team int REFERENCES teams ON DELETE CASCADE DEFERRABLE,
  cost numeric, doubled numeric GENERATED ALWAYS AS (cost * 2) STORED, tags text[], raw bytea, at timestamptz, body jsonb);
CREATE INDEX entries_at ON audit.entries (at);
`;

export const applicationRows = `
INSERT INTO teams (name) SELECT 'team ' || n FROM generate_series(1, 20) n;
INSERT INTO audit.entries (team, cost, tags, raw, at, body)
  SELECT 1 + n % 20, CASE WHEN n = 7 THEN 'NaN' ELSE n / 3.0 END, ARRAY['a', 'b' || n, NULL], decode(md5(n::text), 'hex'),
    CASE WHEN n = 8 THEN 'infinity' ELSE '2026-01-01Z'::timestamptz + n * interval '1 hour' END, jsonb_build_object('n', n)
  FROM generate_series(1, 500) n;
`;

export interface MoveWorldOptions extends Partial<MoveOptions> {
  database?: string;
  mode?: MoveFacts["mode"];
  switchers?: readonly Switcher[];
  id?: string;
  signal?: AbortSignal;
  /** The other way round: from the target to the source. */
  back?: boolean;
  /** Sessions are used again from step to step, as the engine does it; then also `close` the move. */
  pooled?: boolean;
  /** The port by which the target reaches the source, such as a proxy's. */
  sourcePort?: number;
  /** How pgkit and the source log in on the target, in place of its superuser. */
  targetLogin?: Login;
}

interface Login {
  user: string;
  password: string;
}

/** A move without its engine: a context, and what has been planned, done and reported so far. */
export interface TestMove {
  context: MoveContext;
  /** What the engine would have in its journal, by the step's name. */
  plans: Map<string, unknown>;
  results: Map<string, unknown>;
  /** Everything that was reported, as text. */
  said(): string;
  warnings(): string[];
  /** `check`, and unless done `prepare`, `run`, `verify`, as the engine does it; the result. */
  run<P, R>(step: Step<P, R>): Promise<R>;
  check<P, R>(step: Step<P, R>): Promise<"todo" | "partial" | "done">;
  undo<P, R>(step: Step<P, R>): Promise<void>;
  /** Ends the sessions of a `pooled` move. */
  close(): Promise<void>;
}

let moves = 0;

/** A context for a move of `database` between two clusters, with a repository in memory and the system's clock. */
export async function testMove(clusters: MoveClusters, options: MoveWorldOptions = {}): Promise<TestMove> {
  const {
    database = "litellm",
    mode = "online",
    switchers = [],
    back = false,
    signal,
    id,
    pooled = false,
    sourcePort,
    targetLogin,
    ...given
  } = options;
  const [from, to] = back ? [clusters.target, clusters.source] : [clusters.source, clusters.target];
  const sides = {
    source: moveServer("shared", from, sourcePort),
    target: moveServer("dedicated", to, to.port, targetLogin),
  };
  moves += 1;
  const move: MoveFacts = {
    id: id ?? `20261129T180000Z-${(0x1000 + moves).toString(16)}`,
    ...{ application: "litellm", database, mode },
    source: { instance: "shared", systemId: await systemIdOf(from), major: from.major },
    target: { instance: "dedicated", systemId: await systemIdOf(to), major: to.major },
    options: {
      maxBlockMs: 10_000,
      jobs: 2,
      reverseFeed: true,
      backupMaxAgeMs: 86_400_000,
      rollbackWindowMs: 86_400_000,
      ...given,
    },
  };
  const { report, said, events } = reports();
  const sessions = pooled ? sessionPool(sides) : { use: sessionsOf(sides, signal), close: async () => undefined };
  const [plans, results] = [new Map<string, unknown>(), new Map<string, unknown>()];
  const context: MoveContext = {
    ...{ move, ...sides, switchers, report, clock: systemClock },
    session: (side, use, other) => sessions.use(side, other ?? database, use),
    programs: async (side: Side = "target") => (side === "source" ? from : to).programs,
    planOf: <P>(step: Step<P, never>) => plans.get(step.name) as P | undefined,
    resultOf: <R>(step: Step<never, R>) => results.get(step.name) as R | undefined,
    repository: await repositoryIn(memoryStore()),
    signal: signal ?? new AbortController().signal,
  };
  const warnings = () => events.flatMap((event) => (event.type === "warning" ? [event.message] : []));
  return { context, plans, results, said, warnings, close: sessions.close, ...engine(context, plans, results) };
}

/** As the journal has it: everything goes through JSON. */
function engine(context: MoveContext, plans: Map<string, unknown>, results: Map<string, unknown>) {
  const check = async <P, R>(step: Step<P, R>) => await step.check(context, plans.get(step.name) as P | undefined);
  const run = async <P, R>(step: Step<P, R>): Promise<R> => {
    const known = results.get(step.name) as R | undefined;
    if ((await check(step)) === "done" && known !== undefined) return known;
    if (!plans.has(step.name)) plans.set(step.name, journaled(await step.prepare?.(context)));
    const result = journaled(await step.run(context, plans.get(step.name) as P));
    await step.verify(context, result);
    results.set(step.name, result);
    return result;
  };
  const undo = async <P, R>(step: Step<P, R>): Promise<void> => {
    const [plan, result] = [plans.get(step.name) as P | undefined, results.get(step.name) as R | undefined];
    await step.undo(context, plan, result);
    results.delete(step.name);
    plans.delete(step.name);
  };
  return { run, check, undo };
}

function journaled<T>(value: T): T {
  return value === undefined ? value : JSON.parse(JSON.stringify(value));
}

function moveServer(instance: string, cluster: Cluster, peerPort = cluster.port, login?: Login): MoveServer {
  const { user, password } = login ?? { user: cluster.superuser, password: cluster.password };
  const at = (port: number) =>
    `postgresql://${user}@${cluster.host}:${port}/postgres?sslmode=disable&connect_timeout=2`;
  const [connection, peer] = [cluster.port, peerPort].map((port) => parseConnection(at(port), secret(password)));
  if (connection === undefined || peer === undefined) throw new Error("two ports give two connections");
  return { instance, connection, peer, endpoint: { host: cluster.host, port: cluster.port } };
}

const applicationName = "pgkit move";

function sessionsOf(servers: Record<Side, MoveServer>, signal: AbortSignal | undefined) {
  return <T>(side: Side, database: string, use: (session: Session) => Promise<T>): Promise<T> =>
    withSession(servers[side].connection, { database, applicationName, signal }, use);
}

function sessionPool(servers: Record<Side, MoveServer>) {
  const idle: { key: string; session: Session }[] = [];
  return {
    use: async <T>(side: Side, database: string, use: (session: Session) => Promise<T>): Promise<T> => {
      const key = `${side} ${database}`;
      const at = idle.findIndex((each) => each.key === key && !each.session.lost.aborted);
      const session =
        idle.splice(at, at < 0 ? 0 : 1)[0]?.session ??
        (await openSession(servers[side].connection, { database, applicationName }));
      try {
        const result = await use(session);
        idle.push({ key, session });
        return result;
      } catch (error) {
        await session.close();
        throw error;
      }
    },
    close: async () => {
      await Promise.all(idle.splice(0).map(({ session }) => session.close()));
    },
  };
}

async function systemIdOf(cluster: Cluster): Promise<string> {
  return await cluster.psql("SELECT system_identifier FROM pg_control_system()");
}

/** Where the application finds its database on this cluster. */
export function endpointOf(cluster: Cluster, database = "litellm"): EndpointAddress {
  return { host: cluster.host, port: cluster.port, database };
}

/** What the suite needs of one step, beside the step itself. */
export interface Lifecycle {
  /** Asserts what the world looks like when the step is done. */
  done?(move: TestMove): Promise<void>;
  /** Asserts what the world looks like when it is undone: as before. */
  undone?(move: TestMove): Promise<void>;
}

/** What every step promises, whichever it is: call it inside a test, with a move whose earlier steps are done. */
export async function stepLifecycle<P, R>(move: TestMove, step: Step<P, R>, expected: Lifecycle = {}): Promise<void> {
  const { context } = move;
  expect(await move.check(step), "before anything").toBe("todo");
  const first = await move.run(step);
  expect(await move.check(step), "after run").toBe("done");
  await step.verify(context, first);
  await expected.done?.(move);
  // A kill between run and the journal: the engine runs it again.
  const again = journaled(await step.run(context, move.plans.get(step.name) as P));
  await step.verify(context, again);
  expect(await move.check(step), "after a second run").toBe("done");
  await expected.done?.(move);
  const plan = move.plans.get(step.name) as P | undefined;
  await move.undo(step);
  expect(await move.check(step), "after undo").toBe("todo");
  await expected.undone?.(move);
  await step.undo(context, plan, first);
  await step.undo(context, plan, undefined);
  expect(await move.check(step), "after a second undo").toBe("todo");
  await expected.undone?.(move);
  await move.run(step);
  expect(await move.check(step), "after run, undo and run").toBe("done");
  await expected.done?.(move);
}
