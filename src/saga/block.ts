import { PgkitError } from "../lib/errors.ts";
import { formatDuration } from "../lib/parse.ts";
import type { EndGuard, Saga } from "./saga.ts";

/** The time of a block, from its beginning until the application may write again. */
export interface Block {
  /** Aborted by the run's own signal, and when the block lasts too long. */
  readonly signal: AbortSignal;
  /** What was planned before it began, by the step's name, until the step begins. */
  readonly plans: Map<string, unknown>;
  begin(): void;
  /** The application works again: how long it was blocked goes into the journal. */
  finish(): Promise<void>;
  end(): void;
}

export function blockOf<Context>({ journal, clock, maxBlockMs, signal, startGuard }: Saga<Context>): Block {
  const over = new AbortController();
  const done = new AbortController();
  let beganMs: number | undefined;
  let endGuard: EndGuard | undefined;
  const end = () => {
    done.abort();
    endGuard?.();
    endGuard = undefined;
  };
  return {
    signal: AbortSignal.any([signal, over.signal]),
    plans: new Map(),
    begin: () => {
      if (beganMs !== undefined) return;
      endGuard = startGuard?.();
      beganMs = clock.monotonicMs();
      if (maxBlockMs === undefined) return;
      clock.delay(maxBlockMs, done.signal).then(() => over.abort(tooLong(maxBlockMs)), noop);
    },
    finish: async () => {
      end();
      if (beganMs === undefined) return;
      const writeBlockedMs = Math.round(clock.monotonicMs() - beganMs);
      beganMs = undefined;
      await journal.append({ type: "blocked", writeBlockedMs });
    },
    end,
  };
}

function tooLong(maxBlockMs: number): PgkitError {
  return new PgkitError(
    "move-stopped",
    `writes were blocked for ${formatDuration(maxBlockMs)}, which is the most allowed`,
    {
      hint: "the block was lifted and nothing is lost: pgkit move resume tries again, --max-block allows longer",
    },
  );
}

export function noop(): void {
  // The time of the block is not up: its delay was called off.
}
