import { rm } from "node:fs/promises";
import { join } from "node:path";
import { makeBig } from "./logical.ts";
import { time } from "./measure.ts";
import { compare, type Row } from "./rows.ts";
import { type BenchServer, startBenchServer } from "./server.ts";

/** The offline copy of the big database to another server: roles, schema, rows, indexes, constraints, statistics. */
export async function moveCopy(source: BenchServer): Promise<Row[]> {
  await makeBig(source);
  const target = await startBenchServer();
  try {
    return [await copy(source, target)];
  } finally {
    await target.stop();
  }
}

async function copy(source: BenchServer, target: BenchServer): Promise<Row> {
  const size = await source.sql("SELECT pg_size_pretty(pg_database_size('big'))");
  const work = join(source.folder, "pgcopydb");
  const url = ({ port }: BenchServer) => `postgresql://postgres@127.0.0.1:${port}/big?sslmode=disable`;
  const drop = async () => {
    await target.sql("DROP DATABASE IF EXISTS big");
    await target.sql("CHECKPOINT");
    await source.sql("CHECKPOINT");
  };
  const jobs = ["--table-jobs", "2", "--index-jobs", "2"];
  const ends = ["--source", url(source), "--target", url(target), "--dir", work];
  const child = join(import.meta.dirname, "move-child.ts");
  return compare("offline copy of one database to another server", "pgcopydb clone, 2 and 2 jobs", 0.9, size.trim(), [
    {
      name: "peer",
      reset: async () => {
        await rm(work, { recursive: true, force: true });
        await drop();
        await target.sql("CREATE DATABASE big TEMPLATE template0");
      },
      run: () => time({ file: "/usr/bin/pgcopydb", args: ["clone", ...jobs, ...ends], env: { ...source.env } }),
    },
    {
      name: "pgkit",
      reset: drop,
      run: async () => {
        const ran = await time({
          file: process.execPath,
          args: [child, url(source), url(target), source.binDir],
          env: source.env,
        });
        console.error(ran.stderr.trim().replaceAll(/^/gm, "    "));
        return ran;
      },
    },
  ]);
}
