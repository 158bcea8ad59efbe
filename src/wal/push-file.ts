import { isPgkitError } from "../lib/errors.ts";
import type { Clock } from "../lib/time.ts";
import type { Archive, WalContent } from "./push.ts";
import { noteFailure, noteStored, type Spool } from "./spool.ts";

/** A file that PostgreSQL has ready, as the worker knows it. */
export interface FileState {
  name: string;
  phase: "waiting" | "under way" | "done" | "failed";
  /** The archives that have it. */
  stored: Set<Archive>;
  rest: Rest;
}

/** How long to leave alone what has failed. */
export interface Rest {
  failures: number;
  untilMs: number;
}

export interface Pushing {
  spool: Spool;
  archives: readonly Archive[];
  /** Of the archives whose store failed last. */
  rests: Map<Archive, Rest>;
  /** Whether this is the one worker still: what it has stored says nothing when another has its place. */
  holds: () => Promise<boolean>;
  clock: Clock;
  signal: AbortSignal;
}

const longestRestMs = 30_000;

export function newRest(): Rest {
  return { failures: 0, untilMs: 0 };
}

/** True when the file is not noted as stored, and neither it nor every archive that has it not is left alone for now. */
export function worthTrying(pushing: Pushing, { phase, stored, rest }: FileState): boolean {
  if (phase !== "waiting" && phase !== "failed") return false;
  const everywhere = pushing.archives.every((archive) => stored.has(archive));
  return isOver(rest, pushing.clock) && (everywhere || reachable(pushing, stored).length > 0);
}

/**
 * Stores one file in every archive that can be reached, and notes what became of it: stored when all archives have it,
 * else why not. A store that fails is left alone for a while by all files, and the other archives go on meanwhile.
 */
export async function pushFile(pushing: Pushing, file: FileState, read: () => Promise<WalContent>): Promise<void> {
  const { spool, archives, clock } = pushing;
  try {
    const content = await read();
    const outcomes = await Promise.all(
      reachable(pushing, file.stored).map((archive) => putInto(pushing, archive, file, content)),
    );
    const failure = outcomes.find((outcome) => outcome !== undefined);
    if (failure !== undefined) throw failure.error;
    if (archives.every((archive) => file.stored.has(archive)) && (await pushing.holds())) {
      await noteStored(spool, file.name);
      file.phase = "done";
    } else {
      file.phase = "waiting";
    }
  } catch (error) {
    file.phase = "failed";
    if (!isOfStore(error)) lengthen(file.rest, clock);
    await noteFailure(spool, file.name, error);
  }
}

async function putInto(
  { rests, clock, signal }: Pushing,
  archive: Archive,
  file: FileState,
  content: WalContent,
): Promise<{ error: unknown } | undefined> {
  try {
    await archive.put(content, { signal });
    file.stored.add(archive);
    rests.delete(archive);
    return undefined;
  } catch (error) {
    if (isOfStore(error)) {
      const rest = rests.get(archive) ?? newRest();
      // Others that were under way have failed by the same outage.
      if (isOver(rest, clock)) lengthen(rest, clock);
      rests.set(archive, rest);
    }
    return { error };
  }
}

function reachable({ archives, rests, clock }: Pushing, stored: ReadonlySet<Archive>): Archive[] {
  return archives.filter((archive) => !stored.has(archive) && isOver(rests.get(archive) ?? newRest(), clock));
}

function isOver({ untilMs }: Rest, clock: Clock): boolean {
  return clock.monotonicMs() >= untilMs;
}

function lengthen(rest: Rest, clock: Clock): void {
  rest.failures += 1;
  rest.untilMs = clock.monotonicMs() + Math.min(longestRestMs, 500 * 2 ** rest.failures);
}

/** What another file would meet as well. */
function isOfStore(error: unknown): boolean {
  return isPgkitError(
    error,
    ...(["store-denied", "store-unreachable", "store-failed", "store-full", "store-unsupported"] as const),
    ...(["repository-missing", "system-mismatch", "manifest-corrupt", "format-unsupported", "config"] as const),
  );
}
