import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { BaseArchives } from "../../src/backup/base-archives.ts";
import type { BaseOrder } from "../../src/backup/base-engine.ts";
import { assertCanBackup, type InstanceFacts } from "../../src/backup/base-facts.ts";
import { programEngine } from "../../src/backup/base-program.ts";
import { protocolEngine } from "../../src/backup/base-protocol.ts";
import { secret } from "../../src/lib/secret.ts";
import { parseConnection } from "../../src/postgres/connection.ts";
import { withSession } from "../../src/postgres/session.ts";
import { reports } from "../repo/support.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { type Pgkit, pgkitFor } from "../support/pgkit.ts";
import { backUp, verifyBackup } from "./base-support.ts";

let cluster: Cluster;
let pgkit: Pgkit;

beforeAll(async () => {
  cluster = await startCluster({ settings: { max_wal_size: "32MB", min_wal_size: "32MB", wal_keep_size: "0" } });
  pgkit = await pgkitFor({ shared: { cluster } });
});

afterAll(async () => {
  await pgkit[Symbol.asyncDispose]();
  await cluster[Symbol.asyncDispose]();
});

describe.each(["protocol", "pg_basebackup"] as const)("by engine %s", (engine) => {
  test("with its WAL inside has all of that, on a server that removes WAL as soon as it may", async () => {
    const running = backUp(pgkit, "--with-wal", "--engine", engine, "--max-rate", "8MiB");
    running.catch(() => undefined);
    await eventually(async () => {
      expect(await cluster.psql("SELECT count(*) FROM pg_stat_progress_basebackup WHERE backup_streamed > 0")).toBe(
        "1",
      );
    }, 60_000);
    for (let round = 0; round < 4; round++) {
      await cluster.psql("SELECT pg_logical_emit_message(false, 'load', repeat('x', 17000000))");
      await cluster.psql("SELECT pg_switch_wal()");
      await cluster.psql("CHECKPOINT");
    }
    const base = await running;
    await verifyBackup(cluster, pgkit, base);
    expect(await cluster.psql("SELECT count(*) FROM pg_replication_slots")).toBe("0");
  });

  test("of a server that refuses the compression is taken with less, which is said or left to the program", async () => {
    const connection = parseConnection(
      `postgresql://${cluster.superuser}@${cluster.host}:${cluster.port}/postgres`,
      secret(cluster.password),
    );
    const taken = new Map<string, number>();
    const archives: BaseArchives = {
      take: async (name, content) => {
        let bytes = 0;
        for await (const piece of content) bytes += piece.length;
        taken.set(name, bytes);
      },
      check: () => undefined,
    };
    const { report, said } = reports();
    const order: BaseOrder = {
      ...{ connection, label: "test", checkpoint: "fast", maxRate: undefined, withWal: false, slot: "unused" },
      // No zstd has this level: what a server without zstd says comes at the same place, and is told in other words.
      ...{ level: 99, workers: 2, parentManifest: undefined, report, signal: new AbortController().signal },
      onProgress: () => undefined,
    };
    await withSession(connection, {}, async (session) => {
      const take = engine === "protocol" ? protocolEngine : programEngine(cluster.programs, session);
      const { sizeBytes } = await take(order, archives);
      expect(sizeBytes).toBeGreaterThan(15 * 1024 ** 2);
    });
    expect([...taken.keys()].sort()).toEqual(["backup_manifest", "base.tar"]);
    expect(taken.get("base.tar")).toBeGreaterThan(15 * 1024 ** 2);
    if (engine === "protocol") expect(said()).toContain("going on with less");
  });
});

test("a server whose settings allow none is refused by all of them at once, each with what sets it", () => {
  const server = { version: "15.4", major: 15, systemId: "1", inRecovery: false };
  const facts = { server, walLevel: "minimal", maxWalSenders: 0 } as InstanceFacts;
  expect(() => assertCanBackup(facts, "shared")).toThrow(
    expect.objectContaining({
      code: "server-settings",
      message: expect.stringMatching(/wal_level is minimal, max_wal_senders is 0/),
      hint: expect.stringMatching(/wal_level = 'replica'; ALTER SYSTEM SET max_wal_senders/),
    }),
  );
  expect(() => assertCanBackup({ ...facts, walLevel: "replica" }, "shared")).toThrow(/max_wal_senders/);
});
