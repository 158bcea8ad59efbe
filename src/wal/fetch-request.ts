import { readFile, rename, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Lsn, parseSegmentName, segmentName, walFileKind } from "../lib/lsn.ts";
import type { Clock } from "../lib/time.ts";
import { findWal } from "../repo/wal.ts";
import { errorCode, unlessAbsent } from "../store/file/errors.ts";
import { type FetchOptions, fetchFrom, type Source } from "./fetch.ts";
import { hasOwnSegment } from "./own-segment.ts";
import { draftOf, publishFile } from "./prefetch-file.ts";
import type { Spool } from "./spool.ts";
import { workerLives } from "./worker-claim.ts";

export interface FetchRequest {
  spool: Spool;
  sources: readonly Source[];
  /** Starts a worker in the background; harmless where there is one. */
  startWorker: () => void;
  clock: Clock;
  signal: AbortSignal;
}

const pollMs = 20;

/**
 * Puts a WAL file at `path` for restore_command; `absent` only as `fetchFrom` says it. A segment that the background
 * worker is about to have is waited for; after one that it had not, it goes on from there.
 */
export async function fetchRequested(request: FetchRequest, name: string, path: string): Promise<"found" | "absent"> {
  const { sources, spool, clock, signal } = request;
  if (await takeFetched(request, name, path)) return "found";
  const hasOwn: FetchOptions["hasOwn"] = (segment, lineage) => hasOwnSegment(spool.dataDir, segment, lineage);
  const content = await fetchFrom(sources, name, { clock, hasOwn, signal });
  if (content === undefined) return "absent";
  // PostgreSQL syncs what it keeps of it, after it has given it its name.
  await publishFile(path, content, { sync: false });
  if (walFileKind(name) === "segment") await fetchOn(request, following(name, content.length));
  return "found";
}

/** True when the worker had the file, or came to have it while we waited. */
async function takeFetched({ spool, clock, signal }: FetchRequest, name: string, path: string): Promise<boolean> {
  const fetched = join(spool.folder, "in", name);
  for (;;) {
    signal.throwIfAborted();
    const comes = (await unlessAbsent(stat(draftOf(fetched)))) !== undefined;
    if (await moved(fetched, path)) return true;
    if (!comes || !(await workerLives(spool.folder, "fetch", clock))) return false;
    await clock.delay(pollMs, signal);
  }
}

async function moved(from: string, to: string): Promise<boolean> {
  try {
    await rename(from, to);
    return true;
  } catch (error) {
    // EXDEV: the spool is on another file system than pg_wal; the worker's file is of no use then.
    if (errorCode(error) === "ENOENT" || errorCode(error) === "EXDEV") return false;
    throw error;
  }
}

/** Has the worker fetch from `next` on, where there is such a segment by now. */
async function fetchOn(request: FetchRequest, next: string): Promise<void> {
  const { spool, clock, sources } = request;
  const lives = await workerLives(spool.folder, "fetch", clock);
  const coming = join(spool.folder, "in", next);
  for (const path of [coming, draftOf(coming)]) {
    if (lives && (await unlessAbsent(stat(path))) !== undefined) return;
  }
  if (!(await isStored(sources, next, request.signal))) return;
  await askFor(spool, next);
  if (!lives) request.startWorker();
}

async function isStored(sources: readonly Source[], name: string, signal: AbortSignal): Promise<boolean> {
  for (const source of sources) {
    const open = await source.open();
    if (open !== undefined && (await findWal(open.repository, open.lineage, name, { signal })) !== undefined)
      return true;
  }
  return false;
}

/** The name of the segment behind this one on its timeline. */
export function following(name: string, segmentBytes: number): string {
  const { timeline, startLsn } = parseSegmentName(name, segmentBytes) ?? { timeline: 0, startLsn: 0n as Lsn };
  return segmentName({ timeline, startLsn: startLsn + BigInt(segmentBytes) }, segmentBytes);
}

async function askFor({ folder }: Spool, name: string): Promise<void> {
  const draft = join(folder, ".fetch.next");
  await writeFile(draft, name, { mode: 0o600 });
  await rename(draft, join(folder, "fetch.next"));
}

/** From which segment on the worker is to fetch, as recovery said last; `undefined` when it has not. */
export async function askedFor({ folder }: Spool): Promise<string | undefined> {
  return await unlessAbsent(readFile(join(folder, "fetch.next"), "utf8"));
}
