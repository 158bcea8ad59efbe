import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, chown, mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it, onTestFinished } from "vitest";
import { buildProgram } from "../faults/process.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { workersOf } from "./archiving.ts";

const run = promisify(execFile);

interface Status {
  verdict: string;
  findings: { name: string; level: string; message: string; remedy?: string }[];
  server?: { archiver: { archived: number; failed: number }; walBytes: number; diskFreeBytes?: number };
  lag?: { bytes: number; seconds: number };
  stored: { lineages: { systemId: string; timelines: { toLsn: string; segments: number }[] }[] }[];
}

interface Real {
  cluster: Cluster;
  store: string;
  /** The program, built, as the server's user; gives its exit status and its document, or what it said. */
  pgkit(args: readonly string[]): Promise<{ status: number; stdout: string; stderr: string }>;
  status(): Promise<{ status: number; document: Status }>;
  /** A command that goes on until it is stopped, or the test ends. */
  start(args: readonly string[]): { stop(): Promise<void> };
}

/** A server and the real program, which both run as the same user and share a repository. */
async function startReal(settings: readonly string[] = []): Promise<Real> {
  const cluster = await startCluster({ durable: true, settings: { fsync: "off" } });
  onTestFinished(async () => {
    await cluster[Symbol.asyncDispose]();
    for (const pid of await workersOf(cluster.dataDir)) process.kill(pid, "SIGKILL");
  });
  const program = await buildProgram();
  const folder = dirname(dirname(program));
  const [store, home, config] = [join(folder, "store"), join(folder, "home"), join(folder, "pgkit.yaml")];
  await Promise.all([mkdir(store), mkdir(home)]);
  const instance = [`  main:`, `    url: ${cluster.url()}`, ...settings.map((line) => `    ${line}`)];
  await writeFile(config, [`repository: ${store}`, "instances:", ...instance, ""].join("\n"), { mode: 0o600 });
  for (const path of [folder, dirname(folder)]) await chmod(path, 0o755);
  const { runAs } = cluster;
  if (runAs !== undefined) for (const path of [store, home, config]) await chown(path, runAs.uid, runAs.gid);
  const options = { ...runAs, env: { PATH: process.env["PATH"], HOME: home }, cwd: home };
  const pgkit = async (args: readonly string[]) => {
    return await run(process.execPath, [program, "--config", config, ...args], options).then(
      (ended) => ({ status: 0, ...ended }),
      ({ code, stdout, stderr }) => ({ status: Number(code), stdout, stderr }),
    );
  };
  const status = async () => {
    const ended = await pgkit(["pitr", "status", "--json"]);
    if (ended.stdout === "") throw new Error(ended.stderr);
    return { status: ended.status, document: JSON.parse(ended.stdout) };
  };
  const start = (args: readonly string[]) => {
    const child = spawn(process.execPath, [program, "--config", config, ...args], { ...options, stdio: "ignore" });
    const ended = once(child, "exit");
    const stop = async () => {
      child.kill("SIGTERM");
      await ended;
    };
    onTestFinished(stop);
    return { stop };
  };
  return { cluster, store, pgkit, status, start };
}

function problems({ findings }: Status): string[] {
  return findings.filter(({ level }) => level !== "ok").map(({ name }) => name);
}

function about({ findings }: Status, name: string) {
  return findings.filter((finding) => finding.name === name);
}

describe("archiving by the archive_command that pitr enable sets", () => {
  it("stores what the server writes, and status and check say so; a repository that refuses is told by both at once", async () => {
    const { cluster, store, pgkit, status } = await startReal(["archive: { method: archive }"]);
    const before = await status();
    expect(before).toMatchObject({ status: 0, document: { verdict: "ok" } });
    expect(about(before.document, "archiving")[0]?.message).toContain("not set up");
    expect(await pgkit(["pitr", "enable"])).toMatchObject({ status: 0 });
    const waiting = await status();
    expect(waiting.status).toBe(40);
    expect(about(waiting.document, "archiving")).toMatchObject([{ level: "alert", remedy: "restart the server" }]);
    await cluster.restart();
    await cluster.psql("CREATE TABLE a AS SELECT 1; SELECT pg_switch_wal()");
    await eventually(async () => {
      const stored = (await status()).document.stored[0]?.lineages[0]?.timelines[0]?.segments ?? 0;
      if (stored < 1) throw new Error(await cluster.psql("SELECT pg_stat_archiver::text FROM pg_stat_archiver"));
    });
    const base = await pgkit(["backup", "base"]);
    expect(base).toMatchObject({ status: 0 });
    const well = await status();
    expect(problems(well.document)).toEqual([]);
    expect(about(well.document, "archiver")[0]?.message).toMatch(/^000000010000000000000\S+ was archived at/);

    await chmod(store, 0o000);
    await cluster.psql("CREATE TABLE b AS SELECT 1; SELECT pg_switch_wal()");
    await eventually(
      async () => expect(Number(await cluster.psql("SELECT failed_count FROM pg_stat_archiver"))).toBeGreaterThan(0),
      60_000,
    );
    const failing = await status();
    expect(failing).toMatchObject({ status: 40, document: { verdict: "alert" } });
    expect(about(failing.document, "archiver")).toMatchObject([
      { level: "alert", message: expect.stringMatching(/^archive_command fails: last at .* the last success was at/) },
    ]);
    const checked = await pgkit(["check", "--dry-run", "--json"]);
    expect(checked.status).not.toBe(0);
    const found = JSON.parse(checked.stdout).findings.filter((each: { check: string }) => each.check === "archiver");
    expect(found).toMatchObject([{ level: "error", subject: "archiving of main" }]);

    await chmod(store, 0o700);
    await cluster.psql("SELECT pg_switch_wal()");
    await eventually(async () => expect(problems((await status()).document)).toEqual([]), 90_000);
  }, 240_000);
});

describe("archiving by pgkit wal stream with the slot that pitr enable makes", () => {
  it("is watched: without a streamer, with one, and when it has ended; wal status shows what is stored, also without the server", async () => {
    const { cluster, pgkit, status, start } = await startReal(["archive: { method: stream, flushEvery: 200ms }"]);
    expect(await pgkit(["pitr", "enable"])).toMatchObject({ status: 0 });
    const alone = await status();
    expect(about(alone.document, "streamer")).toMatchObject([{ message: expect.stringContaining("not connected") }]);
    const streamer = start(["wal", "stream"]);
    await cluster.psql("CREATE TABLE a AS SELECT 1; SELECT pg_switch_wal()");
    await eventually(async () => {
      const { document } = await status();
      expect(document.stored[0]?.lineages[0]?.timelines[0]?.segments).toBeGreaterThan(0);
      expect(about(document, "streamer")).toMatchObject([{ level: "ok" }]);
    });
    expect(await pgkit(["backup", "base"])).toMatchObject({ status: 0 });
    await eventually(async () => {
      const { document, status: code } = await status();
      expect(problems(document)).toEqual([]);
      expect({ code, lag: document.lag }).toEqual({ code: 0, lag: { bytes: 0, seconds: 0 } });
    });
    const inUse = await pgkit(["pitr", "disable", "--yes"]);
    expect(inUse).toMatchObject({ status: 11, stderr: expect.stringContaining("stop it first") });
    await streamer.stop();
    expect(await pgkit(["pitr", "disable", "--yes"])).toMatchObject({ status: 0 });
    expect(await cluster.psql("SELECT count(*) FROM pg_replication_slots")).toBe("0");
    await cluster.stop();
    const gone = await status();
    expect(gone).toMatchObject({ status: 40, document: { verdict: "alert" } });
    expect(about(gone.document, "server")).toMatchObject([{ level: "alert" }]);
    const shown = await pgkit(["wal", "status"]);
    expect(shown).toMatchObject({ status: 0 });
    expect(shown.stdout).toMatch(
      /SYSTEM +TIMELINE +FROM +TO.*\n+\d{19} +1 +0\/\d000000 +0\/\d000000 +0000000100000000/,
    );
  }, 300_000);
});
