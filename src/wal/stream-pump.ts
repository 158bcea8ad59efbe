import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { withLease } from "../repo/lease.ts";
import type { LeaseHolder } from "../repo/lease-term.ts";
import type { Stream, Streamer } from "./stream-context.ts";
import { type Destination, storeReceived } from "./stream-destination.ts";
import { waitingFiles } from "./stream-folder.ts";
import { backoffMs, mayPass, pause } from "./stream-retry.ts";
import { sayFine, sayTrouble } from "./stream-say.ts";

/** The lease of the one streamer of an instance. */
export function streamLease(instance: string): string {
  return `wal-stream-${instance}`;
}

/** How often the folder is looked into for complete segments. */
const lookEveryMs = 500;
/** How long storing the rest may take when the run is stopped: less than what Kubernetes gives a pod to end. */
export const lastStoreMs = 20_000;

/**
 * Stores in one repository whatever arrives, while it holds the lease there, until `allReceived`; then what is left, and
 * gives true. False when the run was stopped and the repository did not take the rest in time. What may pass is said once
 * and tried again; anything else fails.
 */
export async function pumpInto(
  streamer: Streamer,
  stream: Stream,
  destination: Destination,
  allReceived: AbortSignal,
): Promise<boolean> {
  const { clock } = streamer.request;
  const enough = endingSignal(destination, streamer.stop);
  try {
    for (let failures = 0; ; failures += 1) {
      try {
        return await underLease(streamer, destination, enough.signal, (signal) =>
          pumpWhileHeld(streamer, stream, destination, allReceived, signal),
        );
      } catch (error) {
        if (enough.signal.aborted) return false;
        if (!mayPass(error)) throw error;
        sayTrouble(streamer, destination.repository.where, error);
        await pause(clock, backoffMs(failures, clock), enough.signal);
      } finally {
        destination.holdsLease = false;
      }
    }
  } finally {
    enough.end();
  }
}

/** The first to come here finds the lease of a run that was killed; on this machine it is known to be over. */
async function underLease<T>(
  { request }: Streamer,
  { repository }: Destination,
  signal: AbortSignal,
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { lease, clock, report, instance, streamFolder } = request;
  const former = await readOwner(streamFolder);
  const isGone = (holder: LeaseHolder) =>
    former !== undefined && isSame(holder, former) && hasEnded(former, lease.holder);
  const waitMs = (lease.ttlMs * 7) / 6 + lease.ttlMs / 12;
  const options = { ...lease, clock, report, signal, waitMs, isGone };
  return await withLease(repository, streamLease(instance), options, async (held) => {
    await writeOwner(streamFolder, lease.holder);
    return await run(held);
  });
}

async function pumpWhileHeld(
  streamer: Streamer,
  stream: Stream,
  destination: Destination,
  allReceived: AbortSignal,
  signal: AbortSignal,
): Promise<boolean> {
  const { clock, flushEveryMs } = streamer.request;
  const { folder, losses, destinations } = stream;
  destination.holdsLease = true;
  let flushedMs = Number.NEGATIVE_INFINITY;
  for (let failures = 0; ; ) {
    const last = allReceived.aborted;
    const startedMs = clock.monotonicMs();
    const withPartial = last || startedMs - flushedMs >= flushEveryMs;
    try {
      await storeReceived(destination, { folder, losses, destinations, withPartial, clock, signal });
      sayFine(streamer, destination.repository.where);
      streamer.waitingSegments = (await waitingFiles(folder)).length;
      if (withPartial) flushedMs = startedMs;
      if (last) return true;
      failures = 0;
      const dueMs = flushedMs + flushEveryMs - clock.monotonicMs();
      await pause(clock, Math.max(10, Math.min(lookEveryMs, dueMs)), AbortSignal.any([allReceived, signal]));
    } catch (error) {
      if (signal.aborted || !mayPass(error)) throw signal.aborted ? signal.reason : error;
      sayTrouble(streamer, destination.repository.where, error);
      await pause(clock, backoffMs(failures++, clock), last ? signal : AbortSignal.any([allReceived, signal]));
    }
    signal.throwIfAborted();
  }
}

/** Aborted some time after `stop`, and at once where nothing could be stored anyway. */
function endingSignal(destination: Destination, stop: AbortSignal): { signal: AbortSignal; end: () => void } {
  const ending = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const onStop = () => {
    timer = setTimeout(() => ending.abort(stop.reason), destination.holdsLease ? lastStoreMs : 0);
  };
  if (stop.aborted) onStop();
  else stop.addEventListener("abort", onStop, { once: true });
  return {
    signal: ending.signal,
    end: () => {
      clearTimeout(timer);
      stop.removeEventListener("abort", onStop);
    },
  };
}

const ownerFile = "owner.json";

async function readOwner(folder: string): Promise<{ host: string; pid: number } | undefined> {
  const text = await readFile(join(folder, ownerFile), "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  // Written whole by `writeOwner` alone.
  return text === undefined ? undefined : (JSON.parse(text) as { host: string; pid: number });
}

async function writeOwner(folder: string, { host, pid }: LeaseHolder): Promise<void> {
  const path = join(folder, ownerFile);
  await writeFile(`${path}.new`, JSON.stringify({ host, pid }), { mode: 0o600 });
  await rename(`${path}.new`, path);
}

function isSame(a: { host: string; pid: number }, b: { host: string; pid: number }): boolean {
  return a.host === b.host && a.pid === b.pid;
}

/** Two containers that share a host's name do not share this folder, so its former owner was of our own processes. */
function hasEnded(former: { host: string; pid: number }, ours: LeaseHolder): boolean {
  if (former.host !== ours.host) return false;
  if (former.pid === ours.pid) return true;
  try {
    process.kill(former.pid, 0);
    return false;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "ESRCH";
  }
}
