import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { initServer } from "../src/postgres/init-server.ts";
import { findPrograms } from "../src/postgres/programs.ts";
import { unprivilegedUser } from "../src/postgres/run-as.ts";
import { startServer } from "../src/postgres/server.ts";
import { type Command, type Sample, time } from "./measure.ts";

export interface BenchServer {
  version: string;
  /** A folder on the same disk, for what is dumped. */
  folder: string;
  env: Record<string, string>;
  program(name: string, args: readonly string[], database?: string): Promise<Sample & { stdout: string }>;
  shell(script: string): Promise<Sample>;
  pgkit(args: readonly string[]): Promise<Sample & { stdout: string }>;
  sql(text: string, database?: string): Promise<string>;
  stop(): Promise<void>;
}

/** A server with ordinary, durable settings. The peers' zstd needs PostgreSQL 16 or newer. */
export async function startBenchServer(): Promise<BenchServer> {
  const programs = (await findPrograms([])).find((each) => each.server && each.major >= 16);
  if (programs === undefined) throw new Error("the benchmark needs PostgreSQL 16 or newer: run npm run bench");
  const folder = await mkdtemp(join(tmpdir(), "pgkit-bench-"));
  const runAs = await unprivilegedUser();
  const { binDir } = programs;
  const dataDir = await mkdtemp(join(tmpdir(), "pgkit-bench-data-"));
  const settings = { shared_buffers: "1GB", max_wal_size: "8GB", max_connections: "100" };
  const password = "bench";
  await initServer({ binDir, dataDir, runAs, settings, password });
  const server = await startServer({ binDir, dataDir, runAs, tcp: true });
  const env = {
    PATH: `${binDir}:/usr/bin:/bin`,
    HOME: folder,
    TMPDIR: folder,
    PGHOST: "127.0.0.1",
    PGPORT: String(server.port),
    PGUSER: "postgres",
    PGPASSWORD: password,
  };
  const run = (command: Omit<Command, "env">, database = "postgres") =>
    time({ ...command, env: { ...env, PGDATABASE: database } });
  const program: BenchServer["program"] = (name, args, database) => run({ file: join(binDir, name), args }, database);
  return {
    version: programs.version,
    folder,
    env,
    program,
    shell: (script) => run({ file: "/bin/bash", args: ["-euc", script] }),
    pgkit: (args) => run({ file: process.execPath, args: [join(import.meta.dirname, "../bin/pgkit.js"), ...args] }),
    sql: async (text, database) =>
      (await program("psql", ["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", text], database)).stdout,
    stop: async () => {
      await server.stop("immediate");
      await rm(folder, { recursive: true, force: true });
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}
