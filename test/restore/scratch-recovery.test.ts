import { chmod, mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { systemClock } from "../../src/lib/time.ts";
import { withSession } from "../../src/postgres/session.ts";
import { openRepository } from "../../src/repo/repository.ts";
import { databaseOf, type NeededFiles } from "../../src/restore/database-files.ts";
import { readRecoveryInventory } from "../../src/restore/recovery-inventory.ts";
import { planRecovery, type RecoveryPlan } from "../../src/restore/recovery-plan.ts";
import { type RecoveredServer, withRecoveredServer } from "../../src/restore/scratch-recovery.ts";
import { fileStore } from "../../src/store/file.ts";
import { type Pitr, startPitr } from "../stories/pitr-support.ts";

let pitr: Pitr;
let folder = "";
let flag = "";
const { signal } = new AbortController();
const quiet = { clock: systemClock, report: () => undefined, signal };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pgkit-recovered-"));
  await chmod(folder, 0o711);
  flag = join(tmpdir(), `pgkit-archived-${process.pid}`);
  pitr = await startPitr({ settings: { full_page_writes: "off" } });
  const { cluster } = pitr;
  for (const setting of [
    `archive_command = 'touch ${flag}'`,
    "listen_addresses = '*'",
    "log_destination = csvlog",
    "autovacuum = on",
    "max_logical_replication_workers = 4",
    "primary_conninfo = 'host=nowhere'",
  ]) {
    await cluster.psql(`ALTER SYSTEM SET ${setting}`);
  }
  for (const name of ["app", "other"]) {
    await cluster.psql(`CREATE DATABASE ${name}`);
    await cluster.psql("CREATE TABLE t AS SELECT g AS a FROM generate_series(1, 5000) g", name);
  }
  await pitr.backUp();
  await cluster.psql("CHECKPOINT");
  for (const name of ["app", "other"]) await cluster.psql("UPDATE t SET a = -a WHERE a % 9 = 0", name);
  await pitr.write("end");
  await pitr.storeAll();
}, 300_000);
afterAll(async () => {
  await pitr?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function recovered<T>(
  files: (plan: RecoveryPlan) => NeededFiles,
  use: (server: RecoveredServer, plan: RecoveryPlan) => Promise<T>,
): Promise<T> {
  const settings = {
    compression: { level: 1, threads: 1 },
    recipients: [],
    identities: async () => [],
    volumeBytes: 2 ** 40,
  };
  const repository = await openRepository(fileStore({ path: pitr.pgkit.repository }), settings);
  const inventory = await readRecoveryInventory(repository, "shared", quiet);
  const plan = planRecovery(inventory, { target: { type: "latest" }, timeline: "latest", action: "promote" });
  const { programs } = pitr.cluster;
  const request = {
    repository,
    plan,
    programs,
    files: files(plan),
    libraries: ["no_such_library"],
    parent: folder,
    jobs: 2,
  };
  return withRecoveredServer({ ...request, ...quiet }, (server) => use(server, plan));
}

function without(plan: RecoveryPlan, left: readonly string[], notWritten = left): NeededFiles {
  const { databases } = plan.backup.base;
  const oids = databases.filter(({ name }) => notWritten.includes(name)).map(({ oid }) => oid);
  return {
    left: databases.filter(({ name }) => left.includes(name)),
    wants: (path) => !oids.includes(databaseOf(path) ?? 0),
  };
}

it("the scratch server is reached by a private socket alone, archives nothing, and nothing runs in it", async () => {
  await recovered(
    (plan) => without(plan, ["other"]),
    async (server) => {
      expect(server.missed).toEqual([]);
      const [{ host } = { host: "" }] = server.connection.hosts;
      expect((await stat(host)).mode & 0o777).toBe(0o700);
      expect(host.startsWith(server.folder)).toBe(true);
      const connection = { ...server.connection, user: "postgres", database: "app" };
      await withSession(connection, {}, async (session) => {
        const settings = await session.query<{ name: string; setting: string }>(
          `SELECT name, setting FROM pg_settings WHERE name IN ('listen_addresses', 'archive_mode', 'autovacuum',
             'max_worker_processes', 'max_wal_senders', 'shared_preload_libraries', 'primary_conninfo')`,
        );
        expect(Object.fromEntries(settings.map(({ name, setting }) => [name, setting]))).toEqual({
          ...{ listen_addresses: "", archive_mode: "off", autovacuum: "off", max_worker_processes: "0" },
          ...{ max_wal_senders: "0", shared_preload_libraries: "", primary_conninfo: "" },
        });
        const running = await session.query<{ type: string }>(
          "SELECT DISTINCT backend_type AS type FROM pg_stat_activity WHERE pid <> pg_backend_pid() ORDER BY 1",
        );
        for (const { type } of running) expect(type).toMatch(/^(background writer|checkpointer|walwriter|io worker)$/);
        const [row] = await session.query(
          "SELECT count(*)::int AS rows, count(*) FILTER (WHERE a < 0)::int AS changed FROM public.t",
        );
        expect(row).toEqual({ rows: 5000, changed: 555 });
        await session.query("SELECT pg_switch_wal()");
      });
    },
  );
  await expect(stat(flag)).rejects.toThrow("ENOENT");
  expect(await readdir(folder)).toEqual([]);
});

it("pages that it lacks of the database itself are found in what it says", async () => {
  await recovered(
    // As if the file names had been understood wrongly.
    (plan) => without(plan, ["other"], ["other", "app"]),
    async ({ missed }, plan) => {
      const oid = plan.backup.base.databases.find(({ name }) => name === "app")?.oid;
      expect(missed.length).toBeGreaterThan(0);
      for (const path of missed) expect(path).toMatch(new RegExp(`^base/${oid}/`));
    },
  );
});
