import { type ChildProcess, spawn } from "node:child_process";
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { generateIdentity, identityToRecipient } from "age-encryption";
import { expect, test } from "vitest";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { eventually } from "../support/eventually.ts";
import { pushersOf, startArchiving, workersOf } from "../wal/archiving.ts";
import { lsn, newPlace, type Streaming, seeded } from "../wal/stream-support.ts";
import { type Acknowledged, expectHonest, type Load, ledgerIn, momentOf, startLoad } from "./rounds-support.ts";

/** A server whose WAL goes to an encrypted repository in one of the two ways, and what can be killed of it. */
interface Method extends AsyncDisposable {
  cluster: Cluster;
  repository: string;
  start(args: readonly string[]): Running;
  /** Who is killed how often, besides the server, a backup and a restore. */
  victims: Record<string, { times: number; kill(): Promise<void> }>;
  /** Waits until all that was acknowledged before the call is stored. */
  stored(): Promise<void>;
  /** Gives, as the last thing before the server is gone for good, which of the acknowledged commits must survive. */
  bound(load: Load): Promise<readonly Acknowledged[]>;
}

interface Running {
  child: ChildProcess;
  /** The exit status, `null` after a kill, and all that it said. */
  ended: Promise<{ status: number | null; said: string }>;
}

test.each([
  { name: "archived by wal push", start: archived, seed: 20_261_121 },
  { name: "followed by wal stream", start: streamed, seed: 15_112_026 },
])(
  "25 rounds of SIGKILL, $name: what was acknowledged comes back, once and in order",
  { timeout: 900_000 },
  async ({ start, seed }) => {
    await using method = await start();
    await using place = await restorePlace(method.cluster);
    const dice = seeded(seed);
    const load = await startLoad(method.cluster);
    try {
      await rounds(method, place, load, dice);
    } finally {
      await load.stop();
    }
  },
);

async function rounds(method: Method, place: RestorePlace, load: Load, dice: () => number): Promise<void> {
  const { cluster } = method;
  const backupMs = await timed(() => succeeded(method, ["backup", "base"]));
  let moment = "";
  const killServer = async () => {
    await delay(dice() * 300);
    await cluster.kill9();
    await cluster.restart();
  };
  const killBackup = async () => {
    await killed(method.start(["backup", "base"]), dice() * backupMs);
    await letLeasesPass(method, (path) => !path.includes("wal-stream"));
  };
  const killRestore = async () => {
    const must = [...load.acknowledged];
    await method.stored();
    const args = ["restore", "--data-dir", place.dataDir, "--start"];
    await killed(method.start(args), dice() * backupMs * 1.5);
    await again(method, args);
    expectHonest(await ledgerIn(cluster, place.dataDir), must, load);
    await rm(place.dataDir, { recursive: true });
  };
  const victims = {
    server: { times: 6, kill: killServer },
    backup: { times: 4, kill: killBackup },
    restore: { times: 3, kill: killRestore },
    ...method.victims,
  };
  const order = shuffled(
    Object.entries(victims).flatMap(([name, { times, kill }]) => Array.from({ length: times }, () => ({ name, kill }))),
    dice,
  );
  expect(order).toHaveLength(25);
  for (const [round, { name, kill }] of order.entries()) {
    await kill().catch((error) => {
      throw new Error(`round ${round}, ${name}`, { cause: error });
    });
    await load.further();
    await delay(dice() * 300);
    // What is recovered from here on need not go through the WAL of all rounds.
    if (round === 9 || round === 16) await succeeded(method, ["backup", "base"]);
    if (round === 19) moment = await momentOf(cluster);
  }
  const must = await method.bound(load);
  await load.stop();
  expect(must.length).toBeGreaterThan(500);
  await succeeded(method, ["restore", "--data-dir", place.dataDir, "--start"]);
  expectHonest(await ledgerIn(cluster, place.dataDir), must, load);
  await rm(place.dataDir, { recursive: true });
  await succeeded(method, ["restore", "--data-dir", place.dataDir, "--start", "--to-time", moment]);
  const then = await ledgerIn(cluster, place.dataDir);
  expectHonest(
    then,
    load.acknowledged.filter(({ at }) => at <= moment),
    load,
  );
  expect(then.entries.filter(({ begun }) => begun > moment)).toEqual([]);
}

async function archived(): Promise<Method> {
  const archiving = await startArchiving({
    repository: async (folder) => {
      const path = join(folder, "store");
      return { lines: [`repository: ${path}`, await encryption(folder)], url: `file://${path}`, storage: {} };
    },
  });
  const { cluster, folder, config, words, repository } = archiving;
  const text = await readFile(config, "utf8");
  await writeFile(config, text.replace(/url: postgresql.*$/m, `url: ${JSON.stringify(cluster.url())}`));
  const tmp = await ownFolder(cluster, join(folder, "tmp"));
  // Without the worker PostgreSQL's own command does the work.
  const killWorkers = async () => kill(await workersOf(cluster.dataDir));
  const killed = (segments: number, find: () => Promise<number[]>) => async () => {
    await eventually(async () => {
      // A worker begins where more than one waits.
      for (let closed = 0; closed < segments; closed++) {
        await cluster.psql("SELECT pg_logical_emit_message(true, 'a', 'b')");
        await cluster.psql("SELECT pg_switch_wal()");
      }
      const found = await eventually(async () => {
        const pids = await find();
        expect(pids).not.toEqual([]);
        return pids;
      }, 3_000);
      kill(found);
    }, 300_000);
  };
  const killPush = async () => {
    await killWorkers();
    await killed(1, () => pushersOf(cluster.dataDir))();
  };
  const stored = async () => {
    const wanted = await cluster.psql("SELECT pg_walfile_name(pg_switch_wal())");
    await eventually(async () => {
      if (!(await archiving.ready()).some((name) => name <= wanted)) return;
      await delay(1000);
      // After three failures PostgreSQL waits for a minute, or until another segment is there.
      await cluster.psql("SELECT pg_switch_wal()");
      throw new Error(`${wanted} is not archived yet`);
    }, 300_000);
  };
  return {
    ...{ cluster, repository, stored },
    start: (args) => started([...words, ...args], { cwd: folder, TMPDIR: tmp, ...cluster.runAs }),
    victims: {
      worker: { times: 6, kill: killed(3, () => workersOf(cluster.dataDir)) },
      push: { times: 6, kill: killPush },
    },
    bound: async (load) => {
      await load.further();
      const must = [...load.acknowledged];
      await stored();
      await load.further();
      await cluster.kill9();
      await rm(cluster.dataDir, { recursive: true });
      return must;
    },
    [Symbol.asyncDispose]: () => archiving[Symbol.asyncDispose](),
  };
}

async function streamed(): Promise<Method> {
  const cluster = await startCluster({ durable: true, settings: { fsync: "off" } });
  const place = await newPlace();
  const { folder, repository } = place;
  // The restored server's user passes through.
  const tmp = await mkdtemp(join(tmpdir(), "pgkit-rounds-"));
  await ownFolder(cluster, tmp);
  await place.configure(cluster.url(), [], [`repository: ${repository}`, await encryption(folder)]);
  const program = join(import.meta.dirname, "..", "support", "pgkit-process.ts");
  let streaming: Streaming = place.stream();
  await place.caughtUp(cluster, 60_000);
  const method: Pick<Method, "repository"> = { repository };
  return {
    ...{ cluster, repository },
    start: (args) => started([process.execPath, program, ...args], { cwd: folder, TMPDIR: tmp }),
    victims: {
      streamer: {
        times: 8,
        kill: async () => {
          await streaming.kill("SIGKILL");
          await letLeasesPass(method, (path) => path.includes("wal-stream"));
          streaming = place.stream();
          await place.caughtUp(cluster, 60_000);
        },
      },
      receiver: {
        times: 4,
        kill: async () => kill(await eventually(() => receiversOf(streaming), 60_000)),
      },
    },
    stored: async () => {
      await place.caughtUp(cluster, 90_000).catch(async (cause) => {
        throw new Error(`${JSON.stringify(await place.status())}: ${streaming.said()}`, { cause });
      });
    },
    bound: async (load) => {
      const before = [...load.acknowledged];
      await place.caughtUp(cluster, 90_000);
      await load.further();
      const end = lsn((await place.status()).storedLsn ?? "0/0");
      await Promise.all([cluster.kill9(), streaming.kill("SIGKILL")]);
      await rm(cluster.dataDir, { recursive: true });
      const must = load.acknowledged.filter((each) => each.lsn <= end);
      // What is promised is no less than what a flush ago was.
      expect(must.length).toBeGreaterThanOrEqual(before.length);
      return must;
    },
    [Symbol.asyncDispose]: async () => {
      await place[Symbol.asyncDispose]();
      await rm(tmp, { recursive: true, force: true });
      await cluster[Symbol.asyncDispose]();
    },
  };
}

async function receiversOf({ process: { pid } }: Streaming): Promise<number[]> {
  const tasks = await readdir(`/proc/${pid}/task`);
  const lists = await Promise.all(tasks.map((task) => readFile(`/proc/${pid}/task/${task}/children`, "utf8")));
  const children = lists.join(" ").split(/\s+/).filter(Boolean);
  const names = await Promise.all(children.map((child) => readFile(`/proc/${child}/comm`, "utf8").catch(() => "")));
  const found = children.filter((_, index) => names[index]?.startsWith("pg_receivewal")).map(Number);
  expect(found).not.toEqual([]);
  return found;
}

interface RestorePlace extends AsyncDisposable {
  dataDir: string;
}

async function restorePlace(cluster: Cluster): Promise<RestorePlace> {
  const folder = await mkdtemp(join(tmpdir(), "pgkit-rounds-"));
  await ownFolder(cluster, folder);
  return {
    dataDir: join(folder, "data"),
    [Symbol.asyncDispose]: () => rm(folder, { recursive: true, force: true }),
  };
}

async function ownFolder({ runAs }: Cluster, path: string): Promise<string> {
  await mkdir(path, { recursive: true });
  await chmod(path, 0o711);
  if (runAs !== undefined) await chown(path, runAs.uid, runAs.gid);
  return path;
}

async function encryption(folder: string): Promise<string> {
  const identity = await generateIdentity();
  await writeFile(join(folder, "key"), `${identity}\n`, { mode: 0o644 });
  return `encryption: { recipients: [${await identityToRecipient(identity)}], identityFile: ${join(folder, "key")} }`;
}

interface StartOptions {
  cwd: string;
  TMPDIR: string;
  uid?: number;
  gid?: number;
}

function started([program = "", ...args]: readonly string[], { cwd, TMPDIR, ...who }: StartOptions): Running {
  const env = { PATH: process.env.PATH, HOME: cwd, TMPDIR, PGKIT_LEASE_TTL: "12s" };
  const child = spawn(program, args, { cwd, env, stdio: ["ignore", "pipe", "pipe"], ...who });
  let said = "";
  child.stdout.on("data", (chunk) => (said += chunk));
  child.stderr.on("data", (chunk) => (said += chunk));
  const ended = new Promise<{ status: number | null; said: string }>((resolve) =>
    child.once("close", (status) => resolve({ status, said })),
  );
  return { child, ended };
}

/** It must not have failed by itself before. */
async function killed({ child, ended }: Running, afterMs: number): Promise<void> {
  await Promise.race([delay(afterMs), ended]);
  child.kill("SIGKILL");
  const { status, said } = await ended;
  expect([0, null], said).toContain(status);
}

async function succeeded(method: Method, args: readonly string[]): Promise<void> {
  const { status, said } = await method.start(args).ended;
  expect(status, said).toBe(0);
}

/** The same command goes on with what was cut; where it had come to its end, it is done anew over that. */
async function again(method: Method, args: readonly string[]): Promise<void> {
  const { status, said } = await method.start(args).ended;
  if (status === 21 && /--delta/.test(said)) return await succeeded(method, [...args, "--delta", "--yes"]);
  expect(status, said).toBe(0);
}

async function timed(work: () => Promise<void>): Promise<number> {
  const startMs = performance.now();
  await work();
  return performance.now() - startMs;
}

/** Lets the time of the leases pass that a killed process has left. */
async function letLeasesPass({ repository }: Pick<Method, "repository">, which: (path: string) => boolean) {
  const then = (Date.now() - 60_000) / 1000;
  const folder = join(repository, "leases");
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isFile() && which(path)) await utimes(path, then, then);
  }
}

function kill(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGKILL");
    } catch (error) {
      // It may have ended by itself in this moment.
      expect(error).toMatchObject({ code: "ESRCH" });
    }
  }
}

function shuffled<T>(items: readonly T[], dice: () => number): T[] {
  return items
    .map((item) => ({ item, place: dice() }))
    .sort((a, b) => a.place - b.place)
    .map(({ item }) => item);
}
