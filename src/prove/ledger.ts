import { type ErrorCode, isPgkitError, PgkitError } from "../lib/errors.ts";
import { formatDuration } from "../lib/parse.ts";
import type { Clock } from "../lib/time.ts";
import { orCancelled } from "../store/cancel.ts";
import type { Finding } from "./finding.ts";

/** What every check goes by. */
export interface Watch {
  readonly clock: Clock;
  /** Ends the whole run; what is then thrown is its reason. */
  readonly signal: AbortSignal;
  /** A check that has not ended by then has failed. */
  readonly deadlineMs: number;
}

/** The findings on one subject, in the order in which its checks began. */
export interface Ledger {
  readonly subject: string;
  findings(): Finding[];
  /** Errors that no check should have met; they are findings as well. */
  readonly bugs: readonly unknown[];
  /** Runs one check. What it throws, and a missed deadline, is a finding of it, and gives `undefined`. */
  run<T>(check: string, work: (found: Found) => Promise<T>, options?: RunOptions): Promise<T | undefined>;
  /** For something inside the subject, such as one database; its findings stand among these. */
  about(subject: string): Ledger;
}

export interface RunOptions {
  /** What a missed deadline counts as; `check-failed` where left out. */
  late?: ErrorCode;
  /** A failure breaks neither a backup nor a restore. */
  failsAs?: "warning";
}

/** How a check tells what it found; after its deadline nobody listens. */
export interface Found {
  ok(message: string): void;
  warning(message: string, remedy: string): void;
  error(message: string, remedy: string, code?: ErrorCode): void;
  /** This machine's time. */
  now(): Date;
  /** Aborted when the run is, and at the deadline. */
  readonly signal: AbortSignal;
}

export function ledger(subject: string, watch: Watch, checks: Finding[][] = [], bugs: unknown[] = []): Ledger {
  return {
    subject,
    bugs,
    findings: () => checks.flat(),
    about: (inside) => ledger(inside, watch, checks, bugs),
    run: async (check, work, options = {}) => {
      const own: Finding[] = [];
      checks.push(own);
      const add = (finding: Omit<Finding, "subject" | "check">) => void own.push({ subject, check, ...finding });
      try {
        return await withDeadline(watch, options.late ?? "check-failed", (signal) =>
          work(listener(add, signal, watch.clock)),
        );
      } catch (error) {
        if (watch.signal.aborted) throw watch.signal.reason;
        if (!isPgkitError(error) || error.code === "bug") bugs.push(error);
        add(failure(error, options));
        return undefined;
      }
    },
  };
}

/** Work that does not heed its signal is left to itself: a program or a server that hangs must not hang the others. */
async function withDeadline<T>(
  { clock, signal, deadlineMs }: Watch,
  code: ErrorCode,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const late = new AbortController();
  const done = new AbortController();
  const timer = clock.delay(deadlineMs, done.signal).then(
    () => late.abort(tooLate(code, deadlineMs)),
    (error: unknown) => {
      if (!done.signal.aborted) throw error;
    },
  );
  const either = AbortSignal.any([signal, late.signal]);
  try {
    return await orCancelled(work(either), either);
  } finally {
    done.abort();
    await timer;
  }
}

function tooLate(code: ErrorCode, deadlineMs: number): PgkitError {
  return new PgkitError(code, `no answer within ${formatDuration(deadlineMs)}`, {
    hint: "is it overloaded, stopped or behind a firewall? try again, and look at its own log",
  });
}

function listener(
  add: (finding: Omit<Finding, "subject" | "check">) => void,
  signal: AbortSignal,
  clock: Clock,
): Found {
  const tell = (finding: Omit<Finding, "subject" | "check">) => {
    if (!signal.aborted) add(finding);
  };
  return {
    ok: (message) => tell({ level: "ok", message }),
    warning: (message, remedy) => tell({ level: "warning", message, remedy }),
    error: (message, remedy, code = "check-failed") => tell({ level: "error", message, remedy, code }),
    now: clock.now,
    signal,
  };
}

function failure(error: unknown, { failsAs }: RunOptions): Omit<Finding, "subject" | "check"> {
  if (!isPgkitError(error) || error.code === "bug") {
    const message = `this is a bug in pgkit: ${error instanceof Error ? error.message : String(error)}`;
    return { level: "error", message, code: "bug", remedy: "please report it with the stack that follows" };
  }
  const { message, hint, code } = error;
  return {
    ...(failsAs === "warning" ? { level: "warning" } : { level: "error", code }),
    message,
    ...(hint === undefined ? {} : { remedy: hint }),
  };
}
