import { readFile, writeFile } from "node:fs/promises";
import { cpus } from "node:os";
import { join } from "node:path";
import { archiving, stream } from "./archiving.ts";
import { baseBackups } from "./base.ts";
import { withGateway } from "./gateway.ts";
import { big, small, start } from "./logical.ts";
import { databaseAt } from "./moment.ts";
import { moveCopy } from "./move.ts";
import { folderPlace, type Place } from "./places.ts";
import { type Row, report, rounds, scale } from "./rows.ts";
import { type BenchServer, startBenchServer } from "./server.ts";

const only = process.argv.slice(2);
const rows: Row[] = [];
const server = await startBenchServer();
try {
  await onThe(server);
  await onServersOfTheirOwn();
} finally {
  await server.stop();
  await save();
}

async function onThe(server: BenchServer): Promise<void> {
  await part("start", async () => [await start(server)]);
  await part("big", () => big(server));
  await part("base", () => baseBackups(server, folderPlace(server.folder), { incremental: true }));
  await part("base-s3", () => inGateway((place) => baseBackups(server, place, { incremental: false })));
  await part("moment", () => databaseAt(server));
  await part("move", () => moveCopy(server));
  await part("small", async () => [await small(server)]);
}

async function onServersOfTheirOwn(): Promise<void> {
  await part("wal", () => archiving((folder) => folderPlace(folder)));
  await part("wal-s3", () => inGateway((place) => archiving(() => place)));
  await part("stream", () => stream());
}

async function inGateway(use: (place: Place) => Promise<Row[]>): Promise<Row[]> {
  return await withGateway(use);
}

async function part(name: string, run: () => Promise<Row[]>): Promise<void> {
  if (only.length > 0 && !only.includes(name)) return;
  const started = performance.now();
  rows.push(...(await run()));
  console.error(`part ${name}: ${Math.round((performance.now() - started) / 1000)} s`);
}

async function save(): Promise<void> {
  const path = join(import.meta.dirname, "results.md");
  const heading = `PostgreSQL ${server.version}, ${cpus().length} cores, ${rounds} interleaved rounds, medians. Peak is the resident memory of the pgkit process.`;
  console.log(report(rows, heading, ""));
  if (scale === 1) await writeFile(path, report(rows, heading, await readFile(path, "utf8")));
}
