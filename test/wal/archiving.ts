import { execFile } from "node:child_process";
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { unprivilegedUser } from "../../src/postgres/run-as.ts";
import { openRepository } from "../../src/repo/repository.ts";
import { readLineage } from "../../src/repo/wal.ts";
import { openStore, type StorageConfig } from "../../src/store/open.ts";
import { archiveCommand, restoreCommand, shellWords } from "../../src/wal/archive-command.ts";
import { readClusterFacts } from "../../src/wal/control.ts";
import { fetchWal } from "../../src/wal/fetch.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";

const project = join(import.meta.dirname, "..", "..");
const run = promisify(execFile);

/** A repository as the configuration names it, and as a test opens it. */
export interface Place {
  lines: readonly string[];
  url: string;
  storage: StorageConfig;
  identity?: string;
}

export interface ArchivingOptions {
  /** The `repository:` lines of pgkit.yaml, and what goes with them; the folder `store` in `folder` when left out. */
  repository?: ((folder: string) => Promise<Place>) | undefined;
  settings?: Record<string, string>;
  segmentMegabytes?: number;
}

/** A server that archives by the real program, built as it is shipped. */
export interface Archiving {
  cluster: Cluster;
  /** Everything is in it. */
  folder: string;
  /** Where the default repository is. */
  repository: string;
  config: string;
  /** `pgkit --config ...`: node, the program and its flags. */
  words: string[];
  archiveCommand: string;
  restoreCommand: string;
  /** Runs pgkit as the server's user, with a data directory as its working folder; gives its exit status and what it said. */
  pgkit(args: readonly string[], dataDir?: string): Promise<{ status: number; said: string }>;
  /** Gives a stored file, `undefined` where it is proven absent, without a process of its own. */
  fetch(name: string): Promise<Buffer | undefined>;
  /** Names of the files in pg_wal that PostgreSQL has as archived. */
  archived(): Promise<string[]>;
  ready(): Promise<string[]>;
  [Symbol.asyncDispose](): Promise<void>;
}

export async function startArchiving({
  repository,
  settings = {},
  ...sizes
}: ArchivingOptions = {}): Promise<Archiving> {
  const folder = await mkdtemp(join(tmpdir(), "pgkit-wal-"));
  await chmod(folder, 0o755);
  const program = await buildProgram(folder);
  const store = join(folder, "store");
  const runAs = await unprivilegedUser();
  for (const path of [store, join(folder, "fetched")]) {
    await mkdir(path);
    if (runAs !== undefined) await chown(path, runAs.uid, runAs.gid);
  }
  const folderOnly = { lines: [`repository: ${store}`], url: `file://${store}`, storage: {} };
  const place: Place = (await repository?.(folder)) ?? folderOnly;
  const config = join(folder, "pgkit.yaml");
  const instance = ["instances:", "  main:", "    url: postgresql://postgres@127.0.0.1:1/postgres"];
  await writeFile(config, [...place.lines, ...instance, ""].join("\n"));
  const words = [process.execPath, program, "--config", config];
  const commands = { instance: "main", spool: "pg_wal/pgkit", command: shellWords(words) };
  const archive = archiveCommand(commands);
  const cluster = await startCluster({
    ...{ ...sizes, durable: true },
    settings: { archive_mode: "on", archive_command: archive, wal_level: "replica", fsync: "off", ...settings },
  });
  const status = async (ending: string) => {
    const names = await readdir(join(cluster.dataDir, "pg_wal", "archive_status"));
    return names
      .filter((name) => name.endsWith(ending))
      .map((name) => name.slice(0, -ending.length))
      .sort();
  };
  return {
    ...{ cluster, folder, repository: store, config, words },
    archiveCommand: archive,
    restoreCommand: restoreCommand(commands),
    pgkit: async (args, dataDir = cluster.dataDir) => {
      const [program = "", ...rest] = [...words, "--instance", "main", ...args];
      const options = { cwd: dataDir, ...(runAs ?? {}) };
      return await run(program, rest, options).then(
        ({ stdout, stderr }) => ({ status: 0, said: stdout + stderr }),
        (error) => ({ status: Number(error.code ?? 128), said: `${error.stdout}${error.stderr}` }),
      );
    },
    fetch: async (name) => {
      const settings = { compression: { level: 1, threads: 1 }, recipients: [], volumeBytes: 2 ** 30 };
      const identities = async () => (place.identity === undefined ? [] : [place.identity]);
      const opened = await openRepository(await openStore(place.url, place.storage), { ...settings, identities });
      const { systemId } = await readClusterFacts(cluster.dataDir);
      const lineage = await readLineage(opened, { instance: "main", systemId });
      return lineage && (await fetchWal(opened, lineage, name));
    },
    archived: () => status(".done"),
    ready: () => status(".ready"),
    [Symbol.asyncDispose]: async () => {
      await cluster[Symbol.asyncDispose]();
      for (const pid of await workersOf(cluster.dataDir)) killIfThere(pid);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** A worker may end by itself at this very moment: its server is gone. */
function killIfThere(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}

/** The background workers that run in this data directory, without the shells above them. */
export async function workersOf(dataDir: string): Promise<number[]> {
  return await processesIn(dataDir, (words) => words.includes("--ready") || words.includes("--ahead"));
}

/** The archive commands that run in this data directory. */
export async function pushersOf(dataDir: string): Promise<number[]> {
  return await processesIn(dataDir, (words) => words.includes("push") && !words.includes("--ready"));
}

async function processesIn(dataDir: string, wanted: (words: string[]) => boolean): Promise<number[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name)).map(Number);
  const found = await Promise.all(
    pids.map(async (pid) => {
      const words = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0");
      if (words[0] !== process.execPath || !words.includes("wal") || !wanted(words)) return undefined;
      const cwd = await readlink(`/proc/${pid}/cwd`).catch(() => "");
      return cwd.startsWith(dataDir) ? pid : undefined;
    }),
  );
  return found.filter((pid) => pid !== undefined);
}

async function buildProgram(folder: string): Promise<string> {
  await run(process.execPath, [join(project, "scripts", "build.ts"), join(folder, "dist")]);
  await mkdir(join(folder, "bin"));
  await writeFile(join(folder, "bin", "pgkit.js"), await readFile(join(project, "bin", "pgkit.js")));
  await writeFile(join(folder, "package.json"), '{ "type": "module" }');
  return join(folder, "bin", "pgkit.js");
}
