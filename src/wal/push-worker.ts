import { join } from "node:path";
import { unlessAbsent } from "../store/file/errors.ts";
import { serverRuns } from "./control.ts";
import { type ArchiveOf, readWalFile } from "./push.ts";
import { type FileState, newRest, type Pushing, pushFile, worthTrying } from "./push-file.ts";
import { isNotedStored, notedFailure, readyFiles, type Spool, sweepNotes } from "./spool.ts";
import { claimWorker } from "./worker-claim.ts";

export interface PushWorkerOptions extends ArchiveOf, Omit<Pushing, "rests" | "holds"> {
  /** What this worker was started with: with anything else another takes its place. */
  mark: string;
  /** Files under way at once. */
  parallel: number;
  /** Ends when nothing has been ready for so long. */
  idleMs: number;
}

/** Files under way hold at most so many bytes, or are one. */
const budgetBytes = 32 * 1024 * 1024;
const [busyPollMs, idlePollMs, calmAfterMs] = [50, 500, 5_000];

/**
 * Stores every file that PostgreSQL has ready, in its order, several at once, and notes each in the spool; goes on until
 * nothing has been ready for a while or the server has ended. Gives false at once where another worker is at work. What
 * cannot be stored is noted and tried again, later and later, or as soon as PostgreSQL asks for it again.
 */
export async function runPushWorker(options: PushWorkerOptions): Promise<boolean> {
  const { spool, clock, signal, mark } = options;
  const claim = await claimWorker(spool.folder, "push", clock, mark);
  if (claim === undefined) return false;
  const { holds } = claim;
  const work: Work = { ...options, holds, rests: new Map(), files: new Map(), underWay: new Set(), buffers: [] };
  try {
    for (let idleSince = clock.monotonicMs(); !signal.aborted && (await holds()); ) {
      const ready = await lookAround(work);
      if (ready === undefined) return true;
      launch(work, ready);
      const waiting = ready.some((name) => work.files.get(name)?.phase !== "done");
      if (waiting || work.underWay.size > 0) idleSince = clock.monotonicMs();
      if (work.underWay.size === 0 && !(await serverRuns(spool.dataDir))) return true;
      const idleMs = clock.monotonicMs() - idleSince;
      if (idleMs > options.idleMs) return true;
      await Promise.race([clock.delay(idleMs > calmAfterMs ? idlePollMs : busyPollMs), ...work.underWay]);
    }
    return true;
  } finally {
    await Promise.allSettled(work.underWay);
    await claim.release();
  }
}

interface Work extends PushWorkerOptions, Pushing {
  /** Of the files that are ready. */
  files: Map<string, FileState>;
  underWay: Set<Promise<void>>;
  /** Of one segment each, to be used again: fresh pages cost as much time as reading does. */
  buffers: Buffer[];
  /** Known from the first that was read; until then one goes ahead alone. */
  segmentBytes?: number;
}

/** What is ready; `undefined` when the data directory is gone. Forgets what is ready no more, and its notes. */
async function lookAround(work: Work): Promise<string[] | undefined> {
  const { spool, files } = work;
  const ready = await unlessAbsent(readyFiles(spool));
  if (ready === undefined) return undefined;
  const waiting = new Set(ready);
  for (const name of files.keys()) if (!waiting.has(name)) files.delete(name);
  await unlessAbsent(sweepNotes(spool, waiting));
  for (const name of ready) {
    if (files.has(name)) continue;
    const done = await isNotedStored(spool, name, pathOf(spool, name));
    files.set(name, { name, phase: done ? "done" : "waiting", stored: new Set(), rest: newRest() });
  }
  await wakeWhenAsked(work, ready);
  return ready;
}

/** PostgreSQL asks for the first; its command has taken the note of the last failure away, and waits for a new one. */
async function wakeWhenAsked({ spool, files, rests }: Work, ready: readonly string[]): Promise<void> {
  const first = ready.map((name) => files.get(name)).find((file) => file !== undefined && file.phase !== "done");
  if (first === undefined || first.phase === "under way") return;
  if ((await notedFailure(spool, first.name)) !== undefined) return;
  first.rest.untilMs = 0;
  for (const rest of rests.values()) rest.untilMs = 0;
}

function launch(work: Work, ready: readonly string[]): void {
  const { files, underWay, parallel, segmentBytes } = work;
  const slots =
    segmentBytes === undefined ? 1 : Math.max(1, Math.min(parallel, Math.floor(budgetBytes / segmentBytes)));
  for (const name of ready) {
    if (underWay.size >= slots) return;
    const file = files.get(name);
    if (file === undefined || !worthTrying(work, file)) continue;
    file.phase = "under way";
    const task: Promise<void> = pushOne(work, file).finally(() => underWay.delete(task));
    // The loop meets its failure where it waits for all that is under way.
    task.catch(() => undefined);
    underWay.add(task);
  }
}

async function pushOne(work: Work, file: FileState): Promise<void> {
  const buffer = work.buffers.pop();
  let spare = buffer;
  await pushFile(work, file, async () => {
    const content = await readWalFile(pathOf(work.spool, file.name), file.name, work, buffer);
    work.segmentBytes = content.segmentBytes;
    if (content.bytes.length === content.segmentBytes) spare = content.bytes;
    return content;
  });
  if (spare !== undefined && work.buffers.length < work.parallel) work.buffers.push(spare);
}

function pathOf({ dataDir }: Spool, name: string): string {
  return join(dataDir, "pg_wal", name);
}
