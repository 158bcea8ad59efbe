import { PgkitError } from "../lib/errors.ts";
import { type Archive, type ArchiveOf, readWalFile } from "./push.ts";
import { forgetFailure, isNotedStored, isReady, notedFailure, readyFiles, type Spool } from "./spool.ts";
import { workerLives } from "./worker-claim.ts";

export interface PushRequest extends ArchiveOf {
  spool: Spool;
  archives: readonly Archive[];
  /** Starts a worker in the background; harmless where there is one. */
  startWorker: () => void;
  /** How long PostgreSQL waits for an answer at most. */
  boundMs: number;
  signal: AbortSignal;
}

const pollMs = 20;
/** A worker has announced itself by then, or it cannot. */
const startMs = 5_000;

/**
 * Has one file stored for archive_command: durable and proven in every archive when it resolves. Where more is ready, a
 * background worker does it, with those behind it; else we do. Fails within `boundMs`, and what takes longer than that
 * (a large segment over a slow line) the worker goes on with, so that PostgreSQL finds it done when it asks again.
 */
export async function pushRequested(request: PushRequest, path: string, name: string): Promise<void> {
  const { spool, clock } = request;
  if (await isNotedStored(spool, name, path)) return;
  const alone = !(await isReady(spool, name)) || (await readyFiles(spool)).length <= 1;
  const lives = await workerLives(spool.folder, "push", clock);
  if (!(await isReady(spool, name)) || (alone && !lives)) return await pushOurselves(request, path, name);
  await forgetFailure(spool, name);
  if (!lives) request.startWorker();
  const answer = await waitForWorker(request, path, name);
  if (answer === "no worker") await pushOurselves(request, path, name);
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
      hint: "PostgreSQL asks again, and a background process goes on meanwhile; does the store answer, and is the line to it fast enough?",
    },
  );
}
