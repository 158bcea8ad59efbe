import { stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { walFileKind } from "../lib/lsn.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import { type Archive, type ArchiveOf, readWalFile } from "./push.ts";
import {
  forgetFailure,
  forgetNotes,
  isNotedStored,
  isReady,
  notedFailure,
  notedNames,
  readyFiles,
  type Spool,
} from "./spool.ts";
import { retireOthers, workerLives } from "./worker-claim.ts";

export interface PushRequest extends ArchiveOf {
  spool: Spool;
  archives: readonly Archive[];
  /** Starts a worker in the background; harmless where there is one. */
  startWorker: () => void;
  /** What it is started with. */
  mark: string;
  /** How long PostgreSQL waits for an answer at most. */
  boundMs: number;
  signal: AbortSignal;
}

const pollMs = 25;
/** PostgreSQL is kept waiting for so long at most, that it need not ask for the next so many files. */
const [lingerMs, aheadFiles] = [2_000, 32];
/** A worker has announced itself by then, or it cannot. */
const startMs = 5_000;

/**
 * Has one file stored for archive_command: durable and proven in every archive when it resolves. Where more is ready, a
 * background worker does it, with those behind it; else we do. Fails within `boundMs`, and what takes longer than that
 * (a large segment over a slow line) the worker goes on with, so that PostgreSQL finds it done when it asks again.
 */
export async function pushRequested(request: PushRequest, path: string, name: string): Promise<void> {
  try {
    await push(request, path, name);
  } catch (error) {
    if (!isPgkitError(error) || error.code === "cancelled") throw error;
    const { code, message, hint = "does the store answer, and is it in order? pgkit check tries it" } = error;
    const archived = `${name} is not archived, PostgreSQL keeps it and asks again: ${message}`;
    throw new PgkitError(code, archived, { hint, cause: error });
  }
}

async function push(request: PushRequest, path: string, name: string): Promise<void> {
  const { spool, clock, mark } = request;
  // One of former settings would go on with them as long as the server writes: into another repository, or unencrypted.
  if (await retireOthers(spool.folder, "push", mark)) await forgetNotes(spool);
  // Noted while we were starting: the next file would start one of us again.
  if (await isNotedStored(spool, name, path)) return await letItGetAhead(request, name);
  const ready = await isReady(spool, name);
  if (!ready) await refuseUnfinished(spool, path, name);
  const lives = await workerLives(spool.folder, "push", clock);
  const alone = !ready || (!lives && (await readyFiles(spool)).length <= 1);
  if (alone) return await pushOurselves(request, path, name);
  await forgetFailure(spool, name);
  if (!lives) request.startWorker();
  const answer = await waitForWorker(request, path, name);
  if (answer === "no worker") await pushOurselves(request, path, name);
  else await letItGetAhead(request, name);
}

/** By hand, a segment that the server still writes would be stored half, and never be replaced. */
async function refuseUnfinished({ dataDir }: Spool, path: string, name: string): Promise<void> {
  const folder = join(dataDir, "pg_wal");
  if (walFileKind(name) !== "segment" || dirname(path) !== folder) return;
  if ((await unlessAbsent(stat(join(folder, "archive_status", `${name}.done`)))) !== undefined) return;
  throw new PgkitError("wal-invalid", `${name} is still being written, as far as the server's archive_status tells`, {
    hint: "SELECT pg_switch_wal() closes it, and PostgreSQL then has it archived",
  });
}

async function waitForWorker(request: PushRequest, path: string, name: string): Promise<"stored" | "no worker"> {
  const { spool, clock, boundMs, signal } = request;
  const start = clock.monotonicMs();
  for (let seen = false; ; ) {
    signal.throwIfAborted();
    if (await isNotedStored(spool, name, path)) return "stored";
    const failure = await notedFailure(spool, name);
    if (failure !== undefined) throw failure;
    const waitedMs = clock.monotonicMs() - start;
    const lives = await workerLives(spool.folder, "push", clock);
    seen ||= lives;
    if (!lives && (seen || waitedMs > startMs)) {
      // It may have noted the file between our two looks.
      return (await isNotedStored(spool, name, path)) ? "stored" : "no worker";
    }
    if (waitedMs > boundMs) throw tooSlow(name, request);
    await clock.delay(pollMs, signal);
  }
}

/**
 * The next files are about to be stored as well: where PostgreSQL came back at once, it would start one of us for nearly
 * each of them, which costs more time than storing it.
 */
async function letItGetAhead({ spool, clock, signal }: PushRequest, name: string): Promise<void> {
  const deadlineMs = clock.monotonicMs() + lingerMs;
  while (clock.monotonicMs() < deadlineMs) {
    const ready = await readyFiles(spool);
    const behind = ready.slice(ready.indexOf(name) + 1).slice(0, aheadFiles);
    const noted = await notedNames(spool);
    if (behind.every((next) => noted.has(next)) || !(await workerLives(spool.folder, "push", clock))) return;
    await clock.delay(pollMs, signal);
  }
}

async function pushOurselves(request: PushRequest, path: string, name: string): Promise<void> {
  const { archives, boundMs, clock } = request;
  const content = await readWalFile(path, name, request);
  const bound = new AbortController();
  const signal = AbortSignal.any([request.signal, bound.signal]);
  const over = new AbortController();
  clock.delay(boundMs, over.signal).then(
    () => bound.abort(tooSlow(name, request)),
    () => undefined,
  );
  try {
    await Promise.all(archives.map((archive) => archive.put(content, { signal })));
  } catch (error) {
    if (bound.signal.aborted && !request.signal.aborted) {
      request.startWorker();
      throw bound.signal.reason;
    }
    throw error;
  } finally {
    over.abort();
  }
}

function tooSlow(name: string, { archives, boundMs }: PushRequest): PgkitError {
  const where = archives.map((archive) => archive.where).join(" and ");
  return new PgkitError(
    "store-unreachable",
    `${name} is not stored in ${where} after ${Math.round(boundMs / 1000)} s`,
    {
      hint: "a background process goes on meanwhile; does the store answer, and is the line to it fast enough?",
    },
  );
}
