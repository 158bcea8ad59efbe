import { execFile } from "node:child_process";
import { chown, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../../src/lib/time.ts";
import { startServer } from "../../src/postgres/server.ts";
import type { Manifest } from "../../src/repo/manifest.ts";
import { openOrCreateRepository, type Repository, refreshGuide } from "../../src/repo/repository.ts";
import { createLineage, putWal } from "../../src/repo/wal.ts";
import { fileStore } from "../../src/store/file.ts";
import { settings } from "../repo/support.ts";
import { openFolder, takeBackup } from "../restore/cluster-support.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { consoleBlock } from "./by-hand.ts";

const exec = promisify(execFile);

let cluster: Cluster;
let folder = "";
let repository: Repository;
let moment = "";
const chain: Manifest[] = [];

beforeAll(async () => {
  folder = await openFolder(await mkdtemp(join(tmpdir(), "pgkit-base-by-hand-")));
  const wal = await openFolder(join(folder, "archive"));
  const archive = { archive_mode: "on", archive_command: `cp %p ${wal}/%f` };
  cluster = await startCluster({ settings: { wal_level: "replica", max_wal_senders: "4", ...archive } });
  if (cluster.major >= 17) await cluster.restart({ summarize_wal: "on" });
  await exec("age-keygen", ["-o", join(folder, "identity.txt")]);
  const recipient = (await exec("age-keygen", ["-y", join(folder, "identity.txt")])).stdout.trim();
  if (cluster.runAs) await chown(join(folder, "identity.txt"), cluster.runAs.uid, cluster.runAs.gid);
  const place = fileStore({ path: join(folder, "repository") });
  const volumes = { ...settings, recipients: [recipient], volumeBytes: 512 * 1024 };
  repository = await openOrCreateRepository(place, volumes, systemClock);
  await cluster.psql("CREATE TABLE spends AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i");
  await cluster.psql(`CREATE TABLESPACE fast LOCATION '${await openFolder(join(folder, "space"))}'`);
  await cluster.psql("CREATE TABLE quick TABLESPACE fast AS SELECT i FROM generate_series(1, 10000) i");
  chain.push(await takeBackup(cluster, repository, folder, { id: "base-20261121T010000Z-0001", wal: false }));
  if (cluster.major >= 17) {
    await cluster.psql("INSERT INTO quick VALUES (0)");
    const parent = chain[0]?.id ?? "";
    const options = ["--incremental", join(folder, `taken-${parent}`, "backup_manifest")];
    const incremental = { id: "base-20261121T020000Z-0002", parent, wal: false, options };
    chain.push(await takeBackup(cluster, repository, folder, incremental));
  }
  await cluster.psql("INSERT INTO spends VALUES (0, 'before')");
  moment = await cluster.psql("SELECT clock_timestamp()");
  await cluster.psql("DELETE FROM spends");
  await cluster.psql("SELECT pg_switch_wal()");
  await cluster.stop();
  const lineage = { instance: "shared", systemId: chain[0]?.server.systemId ?? "" };
  const facts = { ...lineage, segmentBytes: 16 * 1024 * 1024, serverVersion: "15.1" };
  await createLineage(repository, facts, systemClock);
  const { stdout } = await exec("ls", [wal]);
  for (const name of stdout.trim().split("\n")) {
    await putWal(repository, lineage, name, await readFile(join(wal, name)));
  }
  await refreshGuide(repository);
  await exec("chown", ["-R", String(cluster.runAs?.uid ?? process.getuid?.()), join(folder, "repository")]);
});

afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

/** Does what a person does: takes the script out of RESTORE.md by its own command, edits the first lines, runs it. */
async function byHand(edits: Record<string, string>): Promise<string> {
  const guide = await readFile(join(folder, "repository/RESTORE.md"), "utf8");
  const work = await openFolder(await mkdtemp(join(folder, "script-")));
  await writeFile(join(work, "RESTORE.md"), guide);
  const extract = consoleBlock(guide, "sed -n '/^```bash$/").split("\n")[0] ?? "";
  await exec("bash", ["-c", extract], { cwd: work });
  let text = await readFile(join(work, "restore-instance.sh"), "utf8");
  for (const [name, value] of Object.entries(edits)) {
    expect(text, `the script begins with ${name}`).toMatch(new RegExp(`^${name}=`, "m"));
    text = text.replace(new RegExp(`^${name}=.*$`, "m"), () => `${name}='${value}'`);
  }
  await writeFile(join(work, "restore-instance.sh"), text);
  const env = { PATH: process.env["PATH"] ?? "", HOME: work, LC_ALL: "C.UTF-8" };
  const run = exec("bash", ["-x", join(work, "restore-instance.sh")], { cwd: work, env, ...cluster.runAs });
  return (await run).stdout;
}

describe("by RESTORE.md alone, a whole instance", () => {
  it("comes back as it was at a moment, out of encrypted volumes, WAL, and a chain where there is one", async () => {
    const restored = await openFolder(join(folder, "restored"));
    const places = { DATA_DIR: join(restored, "data"), SPACES: join(restored, "spaces"), WORK: join(restored, "work") };
    const from = { REPO: join(folder, "repository"), IDENTITY: join(folder, "identity.txt"), BIN: cluster.binDir };
    const said = await byHand({ ...places, ...from, TARGET_TIME: moment });
    expect(said).toContain(`now start it: ${cluster.binDir}/pg_ctl -D ${places.DATA_DIR}`);
    const { binDir, runAs } = cluster;
    const server = await startServer({ binDir, dataDir: places.DATA_DIR, runAs, tcp: true });
    try {
      const sql =
        "SELECT count(*), (SELECT count(*) FROM quick), bool_or(md5 = 'before'), pg_is_in_recovery() FROM spends";
      const url = `postgresql://postgres:${cluster.password}@127.0.0.1:${server.port}/postgres`;
      const ask = async () => (await exec(join(binDir, "psql"), ["-XAt", "-d", url, "-c", sql])).stdout.trim();
      // It answers readers before it is promoted.
      const rows = `20001|${chain.length > 1 ? 10_001 : 10_000}|t|f`;
      await eventually(async () => expect(await ask()).toBe(rows));
    } finally {
      await server.stop();
    }
  });
});
