import { chown, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { initServer } from "../src/postgres/init-server.ts";
import { findPrograms } from "../src/postgres/programs.ts";
import { type RunAs, unprivilegedUser } from "../src/postgres/run-as.ts";
import { type StartServerOptions, startServer } from "../src/postgres/server.ts";
import { type Command, type Ran, type Sample, time } from "./measure.ts";

/** Another build can be measured: one process each time, with the same arguments. */
export const pgkitProgram = process.env.PGKIT_BENCH_PROGRAM ?? join(import.meta.dirname, "../bin/pgkit.js");

export interface BenchServer {
  version: string;
  binDir: string;
  dataDir: string;
  runAs: RunAs | undefined;
  /** A folder on the same disk, for what is dumped; of the server's user. */
  folder: string;
  env: Record<string, string>;
  port: number;
  password: string;
  readonly socketDir: string;
  program(name: string, args: readonly string[], database?: string): Promise<Ran>;
  shell(script: string): Promise<Sample>;
  pgkit(args: readonly string[]): Promise<Ran>;
  /** Runs a program as the user that the server runs as. */
  asServer(file: string, args: readonly string[]): Promise<Ran>;
  sql(text: string, database?: string): Promise<string>;
  /** Starts it again with these settings, which it keeps until the next time. */
  restart(settings: Record<string, string>): Promise<void>;
  stop(): Promise<void>;
}

const ordinary = { shared_buffers: "1GB", max_wal_size: "8GB", max_connections: "100" };

/** A server with ordinary, durable settings. The peers' zstd needs PostgreSQL 16 or newer. */
export async function startBenchServer(settings: Record<string, string> = {}): Promise<BenchServer> {
  const programs = (await findPrograms([])).find((each) => each.server && each.major >= 16);
  if (programs === undefined) throw new Error("the benchmark needs PostgreSQL 16 or newer: run npm run bench");
  const folder = await mkdtemp(join(tmpdir(), "pgkit-bench-"));
  const runAs = await unprivilegedUser();
  if (runAs !== undefined) await chown(folder, runAs.uid, runAs.gid);
  const { binDir } = programs;
  const dataDir = await mkdtemp(join(tmpdir(), "pgkit-bench-data-"));
  const password = "bench";
  await initServer({ binDir, dataDir, runAs, settings: { ...ordinary, ...settings }, password });
  const options: StartServerOptions = { binDir, dataDir, runAs, tcp: true };
  let server = await startServer(options);
  const { port } = server;
  const env = {
    PATH: `${binDir}:/usr/bin:/bin`,
    HOME: folder,
    TMPDIR: folder,
    PGHOST: "127.0.0.1",
    PGPORT: String(port),
    PGUSER: "postgres",
    PGPASSWORD: password,
  };
  const run = (command: Omit<Command, "env">, database = "postgres") =>
    time({ ...command, env: { ...env, PGDATABASE: database } });
  const program: BenchServer["program"] = (name, args, database) => run({ file: join(binDir, name), args }, database);
  return {
    ...{ version: programs.version, binDir, dataDir, runAs, folder, env, port, password, program },
    get socketDir() {
      return server.socketDir;
    },
    shell: (script) => run({ file: "/bin/bash", args: ["-euc", script] }),
    pgkit: (args) => run({ file: process.execPath, args: [pgkitProgram, ...args] }),
    asServer: (file, args) => run({ file, args, runAs, cwd: folder }),
    sql: async (text, database) =>
      (await program("psql", ["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", text], database)).stdout,
    restart: async (more) => {
      await server.stop();
      server = await startServer({ ...options, tcp: port, settings: more });
    },
    stop: async () => {
      await server.stop("immediate");
      await rm(folder, { recursive: true, force: true });
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}
