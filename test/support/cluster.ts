import { execFile } from "node:child_process";
import { chown, mkdtemp, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { promisify } from "node:util";
import pg from "pg";
import { initServer } from "../../src/postgres/init-server.ts";
import { findPrograms, type Programs } from "../../src/postgres/programs.ts";
import { type RunAs, unprivilegedUser } from "../../src/postgres/run-as.ts";
import { type RunningServer, type StopMode, startServer } from "../../src/postgres/server.ts";

const run = promisify(execFile);

/** What makes a server fast whose data may be lost. */
const throwaway = { fsync: "off", synchronous_commit: "off", full_page_writes: "off", max_wal_size: "4GB" };

export interface ClusterOptions {
  /** PGKIT_TEST_MAJOR, else the newest installed, when left out. */
  major?: number;
  /** An installation of its own, such as one that lacks an extension; over `major`. */
  programs?: Programs;
  settings?: Record<string, string>;
  /** Keeps what a crash must not lose; slower. */
  durable?: boolean;
  /** Of a WAL segment, where not the usual 16. */
  segmentMegabytes?: number;
  /** Servers are copies of one and have its system id, but for those of another lineage. */
  lineage?: string;
}

export interface Cluster {
  programs: Programs;
  major: number;
  binDir: string;
  runAs: RunAs | undefined;
  dataDir: string;
  /** Of the database `postgres` or another, with user and password, on 127.0.0.1. */
  url(database?: string): string;
  superuser: string;
  password: string;
  host: string;
  port: number;
  readonly socketDir: string;
  readonly pid: number;
  /** Runs SQL by psql (stops at the first error) and gives its unaligned, tuples-only output. */
  psql(sql: string, database?: string): Promise<string>;
  /** Runs one of the server's programs with PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE set; gives its stdout. */
  program(name: string, args: string[], database?: string): Promise<string>;
  /** A connected client; the caller ends it. */
  connect(database?: string): Promise<pg.Client>;
  stop(mode?: StopMode): Promise<void>;
  /** Kills all of the server's processes at once, as a power cut would. */
  kill9(): Promise<void>;
  /** Stops it where it runs, and starts it again on the same data directory and port; with these settings added. */
  restart(settings?: Record<string, string>): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Starts a new server for `use`, and removes it afterwards. */
export async function withCluster<T>(options: ClusterOptions, use: (cluster: Cluster) => Promise<T>): Promise<T> {
  await using cluster = await startCluster(options);
  return await use(cluster);
}

/** Starts a new server in a temporary folder; disposing of it (`await using`) stops it and removes the folder. */
export async function startCluster(options: ClusterOptions = {}): Promise<Cluster> {
  const programs = options.programs ?? (await testPrograms(options.major));
  const runAs = await unprivilegedUser();
  const folder = await mkdtemp(join(tmpdir(), "pgkit-test-"));
  try {
    // Open to the user that the server runs as, who does not own it.
    if (runAs !== undefined) await chown(folder, runAs.uid, runAs.gid);
    const dataDir = join(folder, "data");
    const { password } = await copyTemplate(programs, runAs, dataDir, options.lineage);
    const { segmentMegabytes } = options;
    if (segmentMegabytes !== undefined) await resizeSegments(programs, runAs, dataDir, segmentMegabytes);
    const least = segmentMegabytes === undefined ? {} : { min_wal_size: `${2 * segmentMegabytes}MB` };
    const settings = { ...(options.durable ? {} : throwaway), ...least, ...options.settings };
    return await launch({ programs, runAs, folder, dataDir, password, settings });
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

/** The programs that the tests use: of PGKIT_TEST_MAJOR, else of the newest server that is installed. */
export async function testPrograms(major = wantedMajor()): Promise<Programs> {
  const servers = (await findPrograms([])).filter((programs) => programs.server);
  const match = servers.find((programs) => major === undefined || programs.major === major);
  if (match === undefined)
    throw new Error(`no server of PostgreSQL ${major ?? ""} is installed: scripts/setup.sh system`);
  return match;
}

function wantedMajor(): number | undefined {
  const { PGKIT_TEST_MAJOR: text } = process.env;
  return text ? Number(text) : undefined;
}

interface Parts {
  programs: Programs;
  runAs: RunAs | undefined;
  folder: string;
  dataDir: string;
  password: string;
  settings: Record<string, string>;
}

async function launch(parts: Parts): Promise<Cluster> {
  const { programs, runAs, dataDir, password, settings } = parts;
  const { binDir, major } = programs;
  let server = await startServer({ binDir, dataDir, runAs, settings, tcp: true });
  const [superuser, host, port] = ["postgres", "127.0.0.1", server.port];
  const url = (database = "postgres") =>
    `postgresql://${superuser}:${password}@${host}:${port}/${encodeURIComponent(database)}`;
  const utf8 = { PGCLIENTENCODING: "UTF8" };
  const program = async (name: string, args: string[], database = "postgres", more: Record<string, string> = {}) => {
    const login = { PGHOST: host, PGPORT: `${port}`, PGUSER: superuser, PGPASSWORD: password, PGDATABASE: database };
    const env = { ...process.env, LC_ALL: "C.UTF-8", ...login, ...more };
    return (await run(join(binDir, name), args, { env, maxBuffer: 2 ** 28 })).stdout;
  };
  return {
    ...{ programs, major, binDir, runAs, dataDir, url, superuser, password, host, port, program },
    get socketDir() {
      return server.socketDir;
    },
    get pid() {
      return server.pid;
    },
    psql: async (sql, database) =>
      (await program("psql", ["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql], database, utf8)).trimEnd(),
    connect: async (database) => {
      const client = new pg.Client({ host, port, user: superuser, password, database: database ?? "postgres" });
      await client.connect();
      return client;
    },
    stop: (mode) => server.stop(mode),
    kill9: () => kill9(server),
    restart: async (more = {}) => {
      await server.stop();
      server = await startServer({ binDir, dataDir, runAs, settings: { ...settings, ...more }, tcp: port });
    },
    [Symbol.asyncDispose]: async () => {
      await server.stop("immediate");
      await rm(parts.folder, { recursive: true, force: true });
    },
  };
}

/** The postmaster first, so that it starts no others; then waits until none is left to hold its shared memory. */
async function kill9(server: RunningServer): Promise<void> {
  const children = await childrenOf(server.pid);
  for (const pid of [server.pid, ...children]) signal(pid, "SIGKILL");
  await server.ended;
  const deadline = Date.now() + 30_000;
  while (children.some((pid) => signal(pid, 0))) {
    if (Date.now() > deadline) throw new Error(`processes of the server outlived SIGKILL: ${children}`);
    await delay(10);
  }
}

async function childrenOf(parent: number): Promise<number[]> {
  const text = await readFile(`/proc/${parent}/task/${parent}/children`, "utf8");
  return text.trim().split(" ").filter(Boolean).map(Number);
}

/** False when there is no such process. */
function signal(pid: number, name: "SIGKILL" | 0): boolean {
  try {
    return process.kill(pid, name);
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ESRCH") return false;
    throw error;
  }
}

/**
 * A copy of a data directory that initdb made once for this version and user: initdb takes 1 s, the copy 0.1 s. The
 * template is kept between runs, and appears under its name only when it is whole.
 */
async function copyTemplate(programs: Programs, runAs: RunAs | undefined, dataDir: string, lineage?: string) {
  const owner = runAs?.uid ?? process.getuid?.() ?? 0;
  const name = [programs.version, owner, process.getuid?.(), lineage].filter((part) => part !== undefined).join("-");
  const template = join(tmpdir(), `pgkit-template-${name}`);
  if (!(await exists(template))) await makeTemplate(programs, runAs, template);
  await run("cp", ["-a", "--reflink=auto", join(template, "data"), dataDir]);
  return { password: await readFile(join(template, "password"), "utf8") };
}

async function resizeSegments({ binDir }: Programs, runAs: RunAs | undefined, dataDir: string, megabytes: number) {
  await run(join(binDir, "pg_resetwal"), [`--wal-segsize=${megabytes}`, dataDir], { ...runAs, cwd: "/" });
}

async function makeTemplate(programs: Programs, runAs: RunAs | undefined, template: string): Promise<void> {
  const draft = await mkdtemp(`${template}.draft-`);
  try {
    if (runAs !== undefined) await chown(draft, runAs.uid, runAs.gid);
    const made = await initServer({ binDir: programs.binDir, dataDir: join(draft, "data"), runAs, sync: false });
    await writeFile(join(draft, "password"), made.password, { mode: 0o600 });
    // Another worker may have been quicker: a folder does not replace one that is not empty.
    await rename(draft, template).catch(async (error) => {
      if (!(await exists(join(template, "password")))) throw error;
    });
  } finally {
    await rm(draft, { recursive: true, force: true });
  }
}

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
