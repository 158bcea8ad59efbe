import { rm } from "node:fs/promises";
import { join } from "node:path";
import { bigDatabase, smallDatabase } from "./data.ts";
import type { Contender } from "./measure.ts";
import { compare, type Row, rounds, scale } from "./rows.ts";
import type { BenchServer } from "./server.ts";

/** A big database, dumped and restored. */
export async function big(server: BenchServer): Promise<Row[]> {
  const { folder } = server;
  const [dump, repository] = [join(folder, "peer.dump"), join(folder, "repository")];
  await makeBig(server);
  const size = await server.sql("SELECT pg_size_pretty(pg_database_size('big'))");
  const backup = await compare("backup of one database", `pg_dump -Fc -Z zstd:3 > file`, 0.6, size.trim(), [
    {
      name: "peer",
      reset: () => rm(dump, { force: true }),
      run: () => server.shell(`pg_dump -Fc -Z zstd:3 big > ${dump}`),
    },
    {
      name: "pgkit",
      reset: () => rm(repository, { recursive: true, force: true }),
      run: () => server.pgkit(["backup", "logical", "big", "--repository", repository, "--quiet"]),
    },
  ]);
  const drop = (name: string) => async () => {
    await server.sql(`DROP DATABASE IF EXISTS ${name}`);
    await server.sql("CHECKPOINT");
  };
  const restore = await compare("restore of it, indexes and verification included", "pg_restore -j2", 1, size.trim(), [
    {
      name: "peer",
      reset: async () => {
        await drop("peer")();
        await server.sql("CREATE DATABASE peer");
      },
      run: () => server.program("pg_restore", ["-j2", "-d", "peer", dump]),
    },
    {
      name: "pgkit",
      reset: drop("ours"),
      run: () => server.pgkit(["restore", "big", "--as", "ours", "--repository", repository, "--quiet"]),
    },
  ]);
  return [backup, restore];
}

/** Makes the database `big` where it is not there yet. */
export async function makeBig(server: BenchServer): Promise<void> {
  if ((await server.sql("SELECT 1 FROM pg_database WHERE datname = 'big'")).trim() === "1") return;
  console.error("making the database big");
  await server.sql("CREATE DATABASE big");
  await server.program(
    "psql",
    ["-Xq", "-v", "ON_ERROR_STOP=1", "-c", bigDatabase(scale)].flatMap(oneStatementEach),
    "big",
  );
}

/** VACUUM must be a statement of its own, which `-c` with several is not. */
function oneStatementEach(argument: string): string[] {
  if (!argument.includes(";")) return argument === "-c" ? [] : [argument];
  return argument.split(/;\s*$/m).flatMap((statement) => (statement.trim() === "" ? [] : ["-c", statement]));
}

/** Many small databases in one run. */
export async function small(server: BenchServer): Promise<Row> {
  const count = Math.max(10, Math.round(500 * scale));
  const [dumps, repository] = [join(server.folder, "dumps"), join(server.folder, "many")];
  await server.sql("CREATE DATABASE app_0");
  await server.program("psql", ["-Xq", "-c", smallDatabase], "app_0");
  const names = Array.from({ length: count }, (_, index) => `app_${index}`);
  for (const name of names.slice(1)) await server.sql(`CREATE DATABASE ${name} TEMPLATE app_0`);
  let requests = "";
  const row = await compare(`backup of ${count} small databases`, "shell loop over pg_dump -Fc", 1.3, "", [
    {
      name: "peer",
      reset: () => rm(dumps, { recursive: true, force: true }),
      run: () =>
        server.shell(`mkdir ${dumps}; for db in ${names.join(" ")}; do pg_dump -Fc $db > ${dumps}/$db.dump; done`),
    },
    {
      name: "pgkit",
      reset: () => rm(repository, { recursive: true, force: true }),
      run: async () => {
        const run = await server.pgkit([
          "backup",
          "logical",
          ...names,
          "--repository",
          repository,
          "--quiet",
          "--json",
        ]);
        const [{ counts }] = JSON.parse(run.stdout).requests;
        requests = `${counts.put} put, ${counts.get} get, ${counts.head} head, ${counts.list} list`;
        return run;
      },
    },
  ]);
  return { ...row, note: requests };
}

/** The start of a short command. */
export async function start(server: BenchServer): Promise<Row> {
  const empty = join(server.folder, "empty");
  await server.pgkit(["backup", "logical", "postgres", "--repository", empty, "--quiet"]);
  const nothing = () => Promise.resolve();
  const node = { file: process.execPath, args: ["-e", ""] };
  const samples: Contender[] = [
    { name: "peer", reset: nothing, run: () => server.shell(`${node.file} -e ""`) },
    { name: "pgkit", reset: nothing, run: () => server.pgkit(["list", "--repository", empty]) },
  ];
  const row = await compare(
    "start of a command (list)",
    "empty Node script",
    undefined,
    "",
    samples,
    Math.max(rounds, 15),
  );
  return { ...row, note: `${Math.round(row.ourSeconds * 1000)} ms; at most 150 ms asked` };
}
