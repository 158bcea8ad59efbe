import { readdir, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { walFileKind } from "../lib/lsn.ts";
import { release } from "../lib/streams.ts";
import type { Clock } from "../lib/time.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import { serverRuns } from "./control.ts";
import { fetchFrom, type Source } from "./fetch.ts";
import { askedFor, following } from "./fetch-request.ts";
import { draftOf, publishFile } from "./prefetch-file.ts";
import type { Spool } from "./spool.ts";
import { claimWorker } from "./worker-claim.ts";

export interface FetchWorkerOptions {
  spool: Spool;
  sources: readonly Source[];
  segmentBytes: number;
  /** Segments fetched at once; four times as many are kept ready. */
  parallel: number;
  /** Ends when recovery has taken nothing for so long. */
  idleMs: number;
  clock: Clock;
  signal: AbortSignal;
}

const pollMs = 50;
const [budgetBytes, aheadBytes] = [32 * 1024 * 1024, 1024 * 1024 * 1024];

/**
 * Keeps the segments behind the one that recovery asked for last ready in the spool, each under its name only when it is
 * whole, checked and on the disk; for as long as recovery takes them, and while there are more. Partial segments are never
 * among them, as they grow. Gives false at once where another worker is at work.
 */
export async function runFetchWorker(options: FetchWorkerOptions): Promise<boolean> {
  const { spool, clock, signal } = options;
  const claim = await claimWorker(spool.folder, "fetch", clock);
  if (claim === undefined) return false;
  const work: Work = {
    ...options,
    folder: join(spool.folder, "in"),
    asked: "",
    next: "",
    ended: false,
    underWay: new Map(),
  };
  let ready: string[] = [];
  try {
    for (let idleSince = clock.monotonicMs(); !signal.aborted && (await claim.holds()); ) {
      await follow(work);
      const now = await readySegments(work);
      if (now.join() !== ready.join() || work.underWay.size > 0) idleSince = clock.monotonicMs();
      ready = now;
      if (!work.ended) launch(work, ready.length);
      const idle = clock.monotonicMs() - idleSince > options.idleMs || !(await serverRuns(spool.dataDir));
      if (work.underWay.size === 0 && (idle || (work.ended && ready.length === 0))) return true;
      await Promise.race([clock.delay(pollMs), ...work.underWay.values()]);
    }
    return true;
  } finally {
    await Promise.allSettled(work.underWay.values());
    await clear(work);
    await claim.release();
  }
}

interface Work extends FetchWorkerOptions {
  folder: string;
  /** What recovery asked for last. */
  asked: string;
  next: string;
  /** What comes next is not stored yet, or could not be had: recovery's own command will find out. */
  ended: boolean;
  underWay: Map<string, Promise<void>>;
}

/** Recovery has jumped, such as to another timeline: what was fetched for its way before is of no use. */
async function follow(work: Work): Promise<void> {
  const asked = await askedFor(work.spool);
  if (asked === undefined || asked === work.asked || walFileKind(asked) !== "segment") return;
  Object.assign(work, { asked, next: asked, ended: false });
  await Promise.allSettled(work.underWay.values());
  await clear(work);
}

async function clear({ folder }: Work): Promise<void> {
  for (const name of (await unlessAbsent(readdir(folder))) ?? []) await unlessAbsent(unlink(join(folder, name)));
}

async function readySegments({ folder }: Work): Promise<string[]> {
  const names = (await unlessAbsent(readdir(folder))) ?? [];
  return names.filter((name) => walFileKind(name) === "segment").sort();
}

function launch(work: Work, ready: number): void {
  const { parallel, segmentBytes, underWay } = work;
  const slots = Math.max(1, Math.min(parallel, Math.floor(budgetBytes / segmentBytes)));
  const ahead = Math.max(1, Math.min(parallel * 4, Math.floor(aheadBytes / segmentBytes)));
  while (underWay.size < slots && ready + underWay.size < ahead && work.next !== "") {
    const name = work.next;
    work.next = following(name, segmentBytes);
    const task = fetchOne(work, name).finally(() => underWay.delete(name));
    task.catch(() => undefined);
    underWay.set(name, task);
  }
}

async function fetchOne(work: Work, name: string): Promise<void> {
  const { sources, folder, clock, signal } = work;
  const path = join(folder, name);
  try {
    // Says that the file is on its way, to a command that is asked for it meanwhile.
    await writeFile(draftOf(path), "", { mode: 0o600 });
    const content = await fetchFrom(sources, name, { clock, signal, wholeOnly: true });
    if (content === undefined) {
      work.ended = true;
    } else {
      await publishFile(path, content, { sync: true });
      release(content);
    }
  } catch (error) {
    work.ended = true;
    throw error;
  } finally {
    await unlessAbsent(unlink(draftOf(path)));
  }
}
