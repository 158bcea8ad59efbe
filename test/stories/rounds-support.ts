import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { expect } from "vitest";
import { startServer } from "../../src/postgres/server.ts";
import type { Cluster } from "../support/cluster.ts";
import { lsn } from "../wal/stream-support.ts";

/** A commit that the client was told of. */
export interface Acknowledged {
  client: number;
  n: number;
  /** The server's clock after it, RFC 3339 UTC to the microsecond. */
  at: string;
  /** A position behind it. */
  lsn: bigint;
}

export interface Load {
  /** Grows while it runs. */
  acknowledged: readonly Acknowledged[];
  /** Waits until a transaction that began after this call is acknowledged. */
  further(): Promise<void>;
  stop(): Promise<void>;
}

const utc = (sql: string) => `to_char(${sql} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;

/** The server's clock. */
export async function momentOf(cluster: Cluster): Promise<string> {
  return await cluster.psql(`SELECT ${utc("clock_timestamp()")}`);
}

/**
 * Clients that each write a row with their next number and book it to an account in one transaction, over and over. Where
 * the server goes away, they come back; a number is never tried again, as nobody knows what became of it.
 */
export async function startLoad(cluster: Cluster, clients = 3): Promise<Load> {
  await cluster.psql(`CREATE TABLE ledger (id bigserial, client int, n int, begun timestamptz DEFAULT clock_timestamp());
    CREATE TABLE accounts AS SELECT i AS id, 0 AS balance, repeat('x', 300) AS filler FROM generate_series(1, 200) i`);
  const acknowledged: Acknowledged[] = [];
  const stopped = new AbortController();
  const working = Array.from({ length: clients }, (_, id) => work(cluster, id, acknowledged, stopped.signal));
  return {
    acknowledged,
    further: async () => {
      // Each client may have one transaction under way.
      const wanted = acknowledged.length + clients + 1;
      while (acknowledged.length < wanted) await delay(5);
    },
    stop: async () => {
      stopped.abort();
      await Promise.all(working);
    },
  };
}

async function work(cluster: Cluster, id: number, acknowledged: Acknowledged[], signal: AbortSignal): Promise<void> {
  let client: pg.Client | undefined;
  for (let n = 1; !signal.aborted; n++) {
    try {
      client ??= await connected(cluster);
      const commit = `BEGIN; INSERT INTO ledger (client, n) VALUES (${id}, ${n});
        UPDATE accounts SET balance = balance + 1 WHERE id = ${1 + ((n * 7 + id) % 200)}; COMMIT;
        SELECT pg_current_wal_insert_lsn() AS lsn, ${utc("clock_timestamp()")} AS at`;
      const results = (await client.query(commit)) as unknown as pg.QueryResult<{ lsn: string; at: string }>[];
      const row = results.at(-1)?.rows[0];
      if (row !== undefined) acknowledged.push({ client: id, n, at: row.at, lsn: lsn(row.lsn) });
      await delay(4);
    } catch {
      client?.end().catch(() => undefined);
      client = undefined;
      await delay(30);
    }
  }
  client?.end().catch(() => undefined);
}

async function connected({ host, port, superuser, password }: Cluster): Promise<pg.Client> {
  const client = new pg.Client({ host, port, user: superuser, password, database: "postgres" });
  client.on("error", () => undefined);
  await client.connect();
  return client;
}

export interface Ledger {
  /** In the order in which they were written. */
  entries: { client: number; n: number; begun: string }[];
  balance: number;
}

/** What a plain server of the same major finds in a restored directory. */
export async function ledgerIn(cluster: Cluster, dataDir: string): Promise<Ledger> {
  return await opened(cluster, dataDir, async (client) => {
    const entries = await client.query(`SELECT client, n, ${utc("begun")} AS begun FROM ledger ORDER BY id`);
    const { rows } = await client.query("SELECT sum(balance)::int AS balance FROM accounts");
    return { entries: entries.rows, balance: rows[0].balance };
  });
}

/** The first row that it answers there. */
export async function openedRow(cluster: Cluster, dataDir: string, sql: string): Promise<unknown> {
  return await opened(cluster, dataDir, async (client) => (await client.query(sql)).rows[0]);
}

async function opened<T>(cluster: Cluster, dataDir: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const { binDir, runAs, superuser: user, password } = cluster;
  const server = await startServer({ binDir, dataDir, runAs, settings: { archive_mode: "off", fsync: "off" } });
  const client = new pg.Client({ host: server.socketDir, port: server.port, user, password, database: "postgres" });
  try {
    await client.connect();
    return await use(client);
  } finally {
    await client.end();
    await server.stop("immediate");
  }
}

/**
 * Every commit of `must` is there, none twice, each client's in order, none by half, and nothing is missing before what is
 * there: who began after another's commit was acknowledged is not there without it.
 */
export function expectHonest({ entries, balance }: Ledger, must: readonly Acknowledged[], load: Load): void {
  const names = new Set(entries.map(({ client, n }) => `${client}:${n}`));
  expect(names.size, "none is doubled").toBe(entries.length);
  expect(balance, "none is there by half").toBe(entries.length);
  const lastOf = new Map<number, number>();
  for (const { client, n } of entries) {
    expect(n, `client ${client} in order`).toBeGreaterThan(lastOf.get(client) ?? 0);
    lastOf.set(client, n);
  }
  const newest = entries.reduce((latest, { begun }) => (begun > latest ? begun : latest), "");
  const missing = (from: readonly Acknowledged[]) => from.filter(({ client, n }) => !names.has(`${client}:${n}`));
  expect(missing(must), "acknowledged before the bound").toEqual([]);
  expect(missing(load.acknowledged.filter(({ at }) => at < newest)), "acknowledged before what is there").toEqual([]);
}
