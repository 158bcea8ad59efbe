import { readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { startServer } from "../src/postgres/server.ts";
import { type Archiver, archiveBy, ourselves, theOther } from "./archivers.ts";
import { type Contender, interleave, processesWith, watched } from "./measure.ts";
import { folderPlace, type Place } from "./places.ts";
import { compare, type Row, rounds, rowOf, scale } from "./rows.ts";
import { type BenchServer, startBenchServer } from "./server.ts";

const wantedSegments = Math.max(10, Math.round(125 * scale));
const peer = "pgbackrest, asynchronous";

interface Contestant {
  name: "peer" | "pgkit";
  /** With the base backup that the WAL belongs to. */
  first: Archiver;
  /** A new, empty one. */
  make: () => Promise<Archiver>;
}

/** Segments that are ready at once, stored, and then recovered through: real WAL of pgbench. */
export async function archiving(placeIn: (folder: string) => Place): Promise<Row[]> {
  const server = await startBenchServer(keepingAll);
  try {
    const place = placeIn(server.folder);
    await server.program("pgbench", ["-i", "-q", "-s", "20"]);
    const both: Contestant[] = [
      await contestant(server, place, "peer", theOther, ["backup", "--type=full"]),
      await contestant(server, place, "pgkit", ourselves, ["backup", "base", "--quiet"]),
    ];
    await archiveBy(server, "");
    // What was archived while the other took its base backup is wanted by both.
    await makeReady(server, await notes(server, ".done"));
    const segments = await write(server, wantedSegments);
    const pushed = await push(server, place, both, segments);
    return [pushed, ...(await recoveries(server, place, both))];
  } finally {
    await server.stop();
  }
}

/** Nothing is removed from pg_wal, and checkpoints come when they are asked for. */
const keepingAll = {
  ...{ archive_mode: "on", wal_keep_size: "16GB", max_wal_size: "32GB", checkpoint_timeout: "1d" },
  ...{ synchronous_commit: "off", autovacuum: "off" },
};

async function contestant(
  server: BenchServer,
  place: Place,
  name: Contestant["name"],
  make: typeof ourselves,
  backUp: readonly string[],
): Promise<Contestant> {
  const first = await make(server, place, `${name}-first`);
  await archiveBy(server, first.archiveCommand);
  await first.run(...backUp);
  let count = 0;
  return { name, first, make: () => make(server, place, `${name}-${++count}`) };
}

/** Runs pgbench until so many segments wait to be archived; gives their names. */
async function write(server: BenchServer, count: number): Promise<string[]> {
  console.error(`writing ${count} segments`);
  while ((await notes(server, ".ready")).length < count) {
    await server.program("pgbench", ["-n", "-c4", "-j2", "-T2"]);
    // The pages come whole into the WAL again, as on a server that has been running for longer.
    await server.sql("CHECKPOINT");
  }
  await server.sql("SELECT pg_switch_wal()");
  return await notes(server, ".ready");
}

async function notes({ dataDir }: BenchServer, ending: string): Promise<string[]> {
  const names = await readdir(join(dataDir, "pg_wal", "archive_status"));
  return names.filter((name) => name.endsWith(ending)).map((name) => name.slice(0, -ending.length));
}

async function push(server: BenchServer, place: Place, both: readonly Contestant[], segments: string[]): Promise<Row> {
  const contenders = both.map(({ name, first, make }): Contender => {
    let [round, archiver]: [number, Archiver] = [0, first];
    return {
      name,
      reset: async () => {
        await archiveBy(server, "");
        await archiver.settle();
        // The last round is the one that is recovered from.
        archiver = ++round === rounds ? first : await make();
        await archiver.settle();
        await makeReady(server, segments);
        await server.shell("sync");
      },
      run: () => untilArchived(server, archiver),
    };
  });
  const what = `push of ${wantedSegments} ready segments to ${place.where}`;
  const note = `${segments.length} segments, by the server's archiver`;
  const row = await compare(what, peer, 0.8, note, contenders);
  await archiveBy(server, "");
  for (const { first } of both) await first.settle();
  return row;
}

async function makeReady({ dataDir }: BenchServer, segments: readonly string[]): Promise<void> {
  const folder = join(dataDir, "pg_wal", "archive_status");
  for (const name of segments) {
    await rename(join(folder, `${name}.done`), join(folder, `${name}.ready`)).catch(() => undefined);
  }
}

/** From the moment the server has the command until the archiver has acknowledged the last segment. */
async function untilArchived(server: BenchServer, { archiveCommand, word }: Archiver) {
  const { value, peakBytes } = await watched(["pgkit.js", word], async () => {
    await server.sql(`ALTER SYSTEM SET archive_command = '${archiveCommand.replaceAll("'", "''")}'`);
    const started = performance.now();
    await server.sql("SELECT pg_reload_conf()");
    while ((await notes(server, ".ready")).length > 0) await delay(20);
    return (performance.now() - started) / 1000;
  });
  return { seconds: value, peakBytes };
}

async function recoveries(server: BenchServer, place: Place, both: readonly Contestant[]): Promise<Row[]> {
  const dir = join(server.folder, "recovered");
  const clean = async () => {
    for (const { first } of both) await first.settle();
    await rm(dir, { recursive: true, force: true });
    await server.asServer("/bin/mkdir", ["-p", "-m", "700", dir]);
    await server.shell("sync");
  };
  const contenders = both.map((contestant): Contender => {
    const restore = contestant.name === "peer" ? [`--pg1-path=${dir}`, "restore"] : intoDirectory(dir);
    return {
      name: contestant.name,
      reset: async () => {
        await clean();
        await contestant.first.run(...restore);
        await server.shell("sync");
      },
      run: () => recover(server, contestant.first, dir),
    };
  });
  const ours = both.find(({ name }) => name === "pgkit");
  if (ours !== undefined) {
    contenders.push({ name: "start", reset: clean, run: () => recoverOurselves(ours.first, dir) });
  }
  const through = `recovery through ${wantedSegments} segments from ${place.where}`;
  console.error(`${through}:`);
  const samples = await interleave(contenders, rounds);
  const row = { peer: `${peer} archive-get`, target: 0.5, note: "" };
  return [
    rowOf({ ...row, what: `${through}, by restore --start` }, samples, "start"),
    rowOf({ ...row, what: `${through}, by restore_command` }, samples),
  ];
}

const intoDirectory = (dir: string) => ["restore", "--data-dir", dir, "--latest", "--yes"];

/** From the start of the server until it is open for writing. */
async function recover({ binDir, runAs }: BenchServer, { restoreCommand, word }: Archiver, dataDir: string) {
  const settings = {
    ...{ restore_command: restoreCommand(dataDir), archive_mode: "off", hot_standby: "off" },
    ...{ shared_buffers: "1GB" },
  };
  const { value: seconds, peakBytes } = await watched(["pgkit.js", word], async () => {
    const started = performance.now();
    const server = await startServer({ binDir, dataDir, runAs, settings, tcp: true, readyWithinMs: 600_000 });
    // A server that recovers calls itself a standby there until it is open.
    while (!/^ready\s*$/m.test(await readFile(join(dataDir, "postmaster.pid"), "utf8"))) await delay(20);
    const seconds = (performance.now() - started) / 1000;
    await server.stop("immediate");
    return seconds;
  });
  return { seconds, peakBytes };
}

/** Without the restore of the base before it, as in the others' figures. */
async function recoverOurselves(archiver: Archiver, dir: string) {
  const { stderr, peakBytes } = await archiver.run(...intoDirectory(dir), "--start", "--progress", "json");
  const events = stderr.split("\n").filter((line) => line.startsWith("{"));
  const recovered = events
    .map((line) => JSON.parse(line))
    .find((event) => event.type === "done" && /^recover /.test(event.task));
  return { seconds: Number(recovered?.seconds), peakBytes };
}

const idleSeconds = 30;

/** What the streamer needs under load, and when nothing is written. */
export async function stream(): Promise<Row[]> {
  const server = await startBenchServer({ synchronous_commit: "off" });
  try {
    await server.program("pgbench", ["-i", "-q", "-s", "20"]);
    const archiver = await ourselves(server, folderPlace(server.folder), "streamed");
    const running = archiver.run("wal", "stream", "--quiet");
    await untilStreaming(server, running);
    const { peakBytes } = await watched(["pgkit.js", archiver.word], async () => {
      await server.program("pgbench", ["-n", "-c4", "-j2", "-T20"]);
      await delay(10_000);
    });
    const busy = await cpuSeconds(archiver);
    await delay(idleSeconds * 1000);
    const idle = (await cpuSeconds(archiver)) - busy;
    for (const pid of await processesWith("pgkit.js", archiver.word)) process.kill(pid, "SIGTERM");
    await running;
    const note = `${((idle / idleSeconds) * 100).toFixed(1)} % of a core when idle (at most 5 asked); ${(peakBytes / 2 ** 20).toFixed(0)} MiB at most (120 asked)`;
    return [
      {
        ...{ what: `wal stream, ${idleSeconds} s without work: seconds of processor time`, peer: "a core", note },
        ...{ peerSeconds: idleSeconds, ourSeconds: idle, ratio: idle / idleSeconds, target: 0.05 },
        peakMiB: peakBytes / 2 ** 20,
      },
    ];
  } finally {
    await server.stop();
  }
}

async function untilStreaming(server: BenchServer, running: Promise<unknown>): Promise<void> {
  let failure: unknown;
  running.catch((error) => {
    failure = error;
  });
  while ((await server.sql("SELECT count(*) FROM pg_stat_replication")).trim() === "0") {
    if (failure !== undefined) throw failure;
    await delay(200);
  }
}

/** Of pgkit and of the pg_receivewal that it runs. */
async function cpuSeconds({ word }: Archiver): Promise<number> {
  const ours = await processesWith("pgkit.js", word);
  let ticks = 0;
  for (const pid of [...ours, ...(await Promise.all(ours.map(childrenOf))).flat()]) {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / 100;
}

async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
  return text.trim().split(" ").filter(Boolean).map(Number);
}
