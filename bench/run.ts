import { rm, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";
import { bigDatabase, smallDatabase } from "./data.ts";
import { type Contender, interleave, median, type Sample } from "./measure.ts";
import { type BenchServer, startBenchServer } from "./server.ts";

const rounds = Number(process.env.PGKIT_BENCH_ROUNDS ?? 3);
/** 1 is the size that the targets are about; less is for trying out. */
const scale = Number(process.env.PGKIT_BENCH_SCALE ?? 1);
const only = process.argv.slice(2);

interface Row {
  what: string;
  peer: string;
  peerSeconds: number;
  ourSeconds: number;
  ratio: number;
  target: number | undefined;
  peakMiB: number;
  note: string;
}

const server = await startBenchServer();
const rows: Row[] = [];
try {
  if (wanted("big")) rows.push(...(await big(server)));
  if (wanted("small")) rows.push(await small(server));
  if (wanted("start")) rows.push(await start(server));
} finally {
  await server.stop();
}
const text = report(rows, server.version);
console.log(text);
if (only.length === 0 && scale === 1) await writeFile(join(import.meta.dirname, "results.md"), text);

function wanted(name: string): boolean {
  return only.length === 0 || only.includes(name);
}

async function big(server: BenchServer): Promise<Row[]> {
  const { folder } = server;
  const [dump, repository] = [join(folder, "peer.dump"), join(folder, "repository")];
  await server.sql("CREATE DATABASE big");
  await server.program(
    "psql",
    ["-Xq", "-v", "ON_ERROR_STOP=1", "-c", bigDatabase(scale)].flatMap(oneStatementEach),
    "big",
  );
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

/** VACUUM must be a statement of its own, which `-c` with several is not. */
function oneStatementEach(argument: string): string[] {
  if (!argument.includes(";")) return argument === "-c" ? [] : [argument];
  return argument.split(/;\s*$/m).flatMap((statement) => (statement.trim() === "" ? [] : ["-c", statement]));
}

async function small(server: BenchServer): Promise<Row> {
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

async function start(server: BenchServer): Promise<Row> {
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

async function compare(
  what: string,
  peer: string,
  target: number | undefined,
  note: string,
  contenders: readonly Contender[],
  times = rounds,
): Promise<Row> {
  console.error(`${what}:`);
  const samples = await interleave(contenders, times);
  const seconds = (name: string) => median((samples.get(name) ?? []).map((sample: Sample) => sample.seconds));
  const peak = Math.max(...(samples.get("pgkit") ?? []).map((sample) => sample.peakBytes));
  const [peerSeconds, ourSeconds] = [seconds("peer"), seconds("pgkit")];
  return {
    what,
    peer,
    peerSeconds,
    ourSeconds,
    ratio: ourSeconds / peerSeconds,
    target,
    peakMiB: peak / 1024 ** 2,
    note,
  };
}

function report(rows: readonly Row[], version: string): string {
  const lines = rows.map(
    (row) =>
      `| ${row.what} | ${row.peer} | ${row.peerSeconds.toFixed(2)} s | ${row.ourSeconds.toFixed(2)} s | ${row.ratio.toFixed(2)} | ${row.target ?? ""} | ${row.peakMiB.toFixed(0)} MiB | ${row.note} |`,
  );
  return `# Results of \`npm run bench\`

PostgreSQL ${version}, ${cpus().length} cores, ${rounds} interleaved rounds, medians. Peak is the resident memory of the pgkit process.

| what | peer | peer | pgkit | ratio | at most | peak | |
|---|---|---:|---:|---:|---:|---:|---|
${lines.join("\n")}
`;
}
