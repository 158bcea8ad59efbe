import { readdir, rm, utimes } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { listBackups } from "../../src/repo/backups.ts";
import { fileStore } from "../../src/store/file.ts";
import { keysOf, repositoryIn } from "../repo/support.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { buildProgram, runProgram, startProgram, untilAllEnded } from "./process.ts";
import { configured, filesIn, newFolder, seeded, succeed } from "./support.ts";

let cluster: Cluster;
let program = "";

beforeAll(async () => {
  [cluster, program] = await Promise.all([startCluster(), buildProgram()]);
  await cluster.psql("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 200000) i");
});

afterAll(async () => await cluster[Symbol.asyncDispose]());

const args = ["backup", "base", "--with-wal", "--max-rate", "8MiB"];

function filesFor(repository: string): Record<string, string> {
  return configured({ repository, url: cluster.url(), lease: { ttl: "12s" } });
}

describe.each(["SIGKILL", "SIGINT"] as const)("backup base that meets %s", (signal) => {
  test("at any moment is there whole or not at all, and the next one works", async () => {
    const dice = seeded(signal.length);
    let interrupted = 0;
    let wholeMs = 2500;
    for (let round = 0; round < 8; round++) {
      const repository = await newFolder();
      const started = await startProgram(program, args, { files: filesFor(repository) });
      const before = performance.now();
      // The moment itself is what is tried, so there is no condition to wait for.
      await Promise.race([delay((0.15 + dice() * 0.85) * wholeMs), started.ended]);
      started.child.kill(signal);
      const { status, stderr } = await started.ended;
      const said = `${signal} in round ${round}: ${status} ${stderr}`;
      expect([0, signal === "SIGINT" ? 130 : 137], said).toContain(status);
      if (status === 0) wholeMs = performance.now() - before;
      else interrupted++;
      if (signal === "SIGINT") expect(await readdir(started.tmp), said).toEqual([]);
      await untilAllEnded(started);
      await noSenders(said);
      const listed = await listedIn(repository);
      if (status === 0) expect(listed, said).toHaveLength(1);
      if (signal === "SIGINT") {
        const store = fileStore({ path: repository });
        const folders = new Set((await keysOf(store, "files/")).map((key) => key.split("/")[2]));
        expect([...folders], said).toEqual(listed);
      } else await age(join(repository, "leases"));
      await succeed(["backup", "base", "--with-wal"], { files: filesFor(repository) });
      expect(await listedIn(repository), said).toHaveLength(listed.length + 1);
    }
    expect(interrupted).toBeGreaterThan(3);
  }, 300_000);
});

describe("a server that is killed while it sends", () => {
  test.each(["protocol", "pg_basebackup"])(
    "leaves no backup (%s)",
    async (engine) => {
      const repository = await newFolder();
      const running = runProgram(program, [...args, "--engine", engine, "--json"], { files: filesFor(repository) });
      await eventually(async () => {
        const sent = await cluster.psql(
          "SELECT count(*) FROM pg_stat_progress_basebackup WHERE backup_streamed > 1000000",
        );
        expect(sent).toBe("1");
      });
      await cluster.kill9();
      const { status, stderr } = await running;
      await rm(join(cluster.dataDir, "postmaster.pid"), { force: true });
      await cluster.restart();
      expect([status, JSON.parse(stderr.trimEnd().split("\n").at(-1) ?? "").error.code]).toEqual([
        14,
        "postgres-unreachable",
      ]);
      expect(await listedIn(repository)).toEqual([]);
      expect(await keysOf(fileStore({ path: repository }), "files/")).toEqual([]);
      await succeed(["backup", "base", "--with-wal"], { files: filesFor(repository) });
    },
    300_000,
  );
});

async function listedIn(folder: string): Promise<string[]> {
  if ((await filesIn(folder)).every((path) => path !== "pgkit.json")) return [];
  const { backups, unreadable } = await listBackups(await repositoryIn(fileStore({ path: folder })));
  expect(unreadable).toEqual([]);
  return backups.map(({ id }) => id);
}

async function noSenders(said: string): Promise<void> {
  await eventually(async () => {
    const senders = await cluster.psql("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'");
    expect(senders, said).toBe("0");
  });
}

/** Lets the time of a lease pass. */
async function age(folder: string): Promise<void> {
  const then = (Date.now() - 60_000) / 1000;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []))
    if (entry.isFile()) await utimes(join(entry.parentPath, entry.name), then, then);
}
