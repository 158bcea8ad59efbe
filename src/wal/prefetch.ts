import { readdir, rename, unlink } from "node:fs/promises";
import { join, parse } from "node:path";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { walFileKind } from "../lib/lsn.ts";
import type { Report } from "../lib/report.ts";
import { release } from "../lib/streams.ts";
import type { Clock } from "../lib/time.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import { type FileOwner, publishFile, segmentNames, type WalStretch } from "./prefetch-file.ts";

export interface PrefetchRequest {
  /** Gives a WAL file's content, `undefined` where it is proven absent: `fetchWal` or `fetchFrom`. */
  fetch: (name: string, signal: AbortSignal) => Promise<Buffer | undefined>;
  /** There already, of the user that the server runs as, on one file system with pg_wal; only used by us. */
  folder: string;
  /** The server's pg_wal. It must not recycle segments (`wal_recycle`), or one of its own takes the place of ours. */
  walDir: string;
  /** The WAL that recovery will ask for, in its order; other files are fetched when they are asked for. */
  path: readonly WalStretch[];
  segmentBytes: number;
  /** Files fetched at once. */
  parallel: number;
  /** Segments kept ready. */
  ahead: number;
  /**
   * Takes segments out of pg_wal that recovery has read and left behind. Not for a server that may be started again without
   * us before a checkpoint, as one that is paused or shut down at its target: it would not find them.
   */
  takesBack: boolean;
  /** Whom the server runs as, where that is not us. */
  owner?: FileOwner | undefined;
  /** For how long a store that fails is asked again for a file that recovery waits for; one minute where left out. */
  patienceMs?: number | undefined;
  clock: Clock;
  report: Report;
  signal: AbortSignal;
}

export interface Prefetcher {
  /** So far. */
  readonly fetched: { files: number; bytes: number };
  /** Why recovery was told to stop; `undefined` as long as it was not. */
  readonly failure: unknown;
  /** Ends it: whoever waits for a file is told to stop. */
  stop(): Promise<void>;
}

const [pollMs, beatMs] = [20, 500];
const budgetBytes = 32 * 1024 * 1024;

/**
 * Feeds the `spoolRestoreCommand` of a recovery: keeps the next segments ready in pg_wal, each there only when it is
 * whole and checked, and answers what is asked for (`NAME.want`) by `NAME.placed` for a segment, by the file itself for
 * another, by `NAME.absent` where absence is proven, or by `NAME.error`. The files are not synced: they are of use only as
 * long as we run, and whoever recovers after us asks the archive again. What was laid and not taken is removed at the end.
 */
export async function prefetcher(request: PrefetchRequest): Promise<Prefetcher> {
  const { clock } = request;
  await clear(request);
  const stopping = new AbortController();
  const state: State = {
    ...request,
    signal: AbortSignal.any([request.signal, stopping.signal]),
    upcoming: segmentNames(request.path, request.segmentBytes),
    begun: new Set(),
    laid: new Set(),
    read: [],
    spares: [],
    underWay: new Map(),
    fetched: { files: 0, bytes: 0 },
    failure: undefined,
  };
  await beat(state, 0);
  const ended = run(state, clock.monotonicMs());
  // Told by `stop`, or by whoever looks at `failure`.
  ended.catch((error: unknown) => {
    state.failure ??= error;
  });
  return {
    fetched: state.fetched,
    get failure() {
      return state.failure;
    },
    stop: async () => {
      stopping.abort(new PgkitError("cancelled", "the recovery has ended"));
      await Promise.allSettled([ended, ...state.underWay.values()]);
      await clear(request);
    },
  };
}

/** Takes away what recovery did not take, also of a process that was killed. */
async function clear({ folder, walDir }: PrefetchRequest): Promise<void> {
  for (const note of await readdir(folder)) {
    const { name, ext } = parse(note);
    if (ext === placed) for (const path of pathsIn(walDir, name)) await unlessAbsent(unlink(path));
    await unlessAbsent(unlink(join(folder, note)));
  }
}

const placed = ".placed";

/** A segment, and the note that keeps the server from archiving it again. */
function pathsIn(walDir: string, name: string): [string, string] {
  return [join(walDir, name), join(walDir, "archive_status", `${name}.done`)];
}

interface State extends PrefetchRequest {
  upcoming: Iterator<string>;
  /** Segments ahead that were begun. */
  begun: Set<string>;
  /** Segments that wait in pg_wal, and those that recovery has opened, in its order. */
  laid: Set<string>;
  read: string[];
  /** Files that were segments, to be written over. */
  spares: string[];
  underWay: Map<string, Promise<void>>;
  fetched: { files: number; bytes: number };
  failure: unknown;
}

async function run(state: State, startMs: number): Promise<void> {
  const { folder, clock, signal, underWay } = state;
  try {
    for (let beats = 0; !signal.aborted; ) {
      // Taken before the folder is read: what ends meanwhile may have its answer there without being in the list.
      const busy = new Set(underWay.keys());
      const laid = [...state.laid];
      const names = new Set(await readdir(folder));
      await takeBack(state, laid.filter((name) => !names.has(`${name}${placed}`)).sort());
      answerWants(state, names, busy);
      fetchAhead(state, names);
      if ((clock.monotonicMs() - startMs) / beatMs > beats) await beat(state, ++beats);
      await Promise.race([clock.delay(pollMs), ...underWay.values()]);
    }
  } finally {
    await unlessAbsent(unlink(join(folder, "alive")));
  }
}

/** Recovery may look once more into the segment that it has just left, and needs the last two at its end. */
const keptSegments = 3;

/**
 * `taken` are the segments that recovery has opened since the last look. What it has left behind it asks for again where it
 * wants it again. Their files are written over, since a file's fresh pages cost twice the time of decompressing what goes
 * into them; and pg_wal does not grow with the WAL there is.
 */
async function takeBack(state: State, taken: readonly string[]): Promise<void> {
  const { takesBack, walDir, folder, laid, read, spares } = state;
  for (const name of taken) laid.delete(name);
  read.push(...taken);
  if (!takesBack) return;
  for (const name of read.splice(0, Math.max(0, read.length - keptSegments))) {
    const [path, done] = pathsIn(walDir, name);
    const spare = join(folder, `${name}.spare`);
    // A restartpoint may have removed it.
    const found = await unlessAbsent(rename(path, spare).then(() => true));
    await unlessAbsent(unlink(done));
    if (found) spares.push(spare);
  }
}

/** A number that changes as long as we live. */
async function beat({ folder, owner }: State, count: number): Promise<void> {
  await publishFile(join(folder, "alive"), Buffer.from(`${count}\n`), { owner, sync: false });
}

function answerWants(state: State, names: ReadonlySet<string>, busy: ReadonlySet<string>): void {
  for (const want of names) {
    const name = want.endsWith(".want") ? want.slice(0, -".want".length) : undefined;
    if (name === undefined || busy.has(name)) continue;
    if (["", placed, ".absent", ".error"].some((ending) => names.has(`${name}${ending}`))) continue;
    state.begun.add(name);
    begin(state, name, () => answer(state, name));
  }
}

function fetchAhead(state: State, names: ReadonlySet<string>): void {
  const { underWay, parallel, ahead, segmentBytes } = state;
  const slots = Math.max(1, Math.min(parallel, Math.floor(budgetBytes / segmentBytes)));
  const ready = [...names].filter((name) => name.endsWith(placed)).length;
  while (underWay.size < slots && ready + underWay.size < ahead) {
    const { value: name, done } = state.upcoming.next();
    if (done === true) return;
    if (state.begun.has(name)) continue;
    state.begun.add(name);
    begin(state, name, () => tryAhead(state, name));
  }
}

function begin(state: State, name: string, work: () => Promise<void>): void {
  // One that is asked for again is laid anew.
  if (state.read.includes(name)) state.read.splice(state.read.indexOf(name), 1);
  const task = work().finally(() => state.underWay.delete(name));
  // What it failed with is noted, or was because we are stopping.
  task.catch(() => undefined);
  state.underWay.set(name, task);
}

/** What fails or is absent now is asked for again when recovery comes to it. */
async function tryAhead(state: State, name: string): Promise<void> {
  const content = await state.fetch(name, state.signal);
  if (content !== undefined) await publish(state, name, content);
}

async function answer(state: State, name: string): Promise<void> {
  const { folder, owner, signal } = state;
  try {
    const content = await patiently(state, name);
    if (content !== undefined) await publish(state, name, content);
    else await publishFile(join(folder, `${name}.absent`), Buffer.alloc(0), { owner, sync: false });
  } catch (error) {
    if (signal.aborted) throw error;
    state.failure ??= error;
    await publishFile(join(folder, `${name}.error`), Buffer.alloc(0), { owner, sync: false });
  }
}

async function patiently(state: State, name: string): Promise<Buffer | undefined> {
  const { clock, signal, report, patienceMs = 60_000 } = state;
  const deadlineMs = clock.monotonicMs() + patienceMs;
  for (let waitMs = 500; ; waitMs = Math.min(waitMs * 2, 10_000)) {
    try {
      return await state.fetch(name, signal);
    } catch (error) {
      if (!isPgkitError(error, "store-unreachable", "store-failed") || clock.monotonicMs() > deadlineMs) throw error;
      report({ type: "warning", message: `${name}: ${error.message}; it is asked for again`, hint: error.hint });
      await clock.delay(waitMs, signal);
    }
  }
}

async function publish(state: State, name: string, content: Buffer): Promise<void> {
  const how = { owner: state.owner, sync: false };
  if (walFileKind(name) === "segment") {
    const [path, done] = pathsIn(state.walDir, name);
    const draft = join(state.folder, `${name}.part`);
    await publishFile(path, content, { ...how, draft, over: state.spares.pop() });
    await publishFile(done, Buffer.alloc(0), how);
    await publishFile(join(state.folder, `${name}${placed}`), Buffer.alloc(0), how);
    state.laid.add(name);
  } else {
    await publishFile(join(state.folder, name), content, how);
  }
  await unlessAbsent(unlink(join(state.folder, `${name}.want`)));
  state.fetched.files += 1;
  state.fetched.bytes += content.length;
  release(content);
}
