import { PgkitError } from "../lib/errors.ts";
import type { Session } from "../postgres/session.ts";
import type { MoveContext } from "./step.ts";

/** What the receiving server says of a subscription's workers. */
export interface FeedHealth {
  /** Errors so far, as pg_stat_subscription_stats counts them. */
  applyErrors: number;
  copyErrors: number;
  /** The worker that applies changes is there, and has heard of the sending server. */
  connected: boolean;
  /** All workers that the server allows are taken: by subscriptions of any database. */
  full: boolean;
}

export async function feedHealth(session: Session, name: string): Promise<FeedHealth> {
  const [row] = await session.query<FeedHealth>(
    `SELECT t.apply_error_count::float8 AS "applyErrors", t.sync_error_count::float8 AS "copyErrors",
       EXISTS (SELECT FROM pg_stat_subscription w WHERE w.subid = s.oid AND w.relid IS NULL AND w.pid IS NOT NULL
         AND w.last_msg_receipt_time IS NOT NULL) AS connected,
       (SELECT count(pid) FROM pg_stat_subscription) >= current_setting('max_logical_replication_workers')::int AS full
     FROM pg_subscription s JOIN pg_stat_subscription_stats t ON t.subid = s.oid
     WHERE s.subname = $1 AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    [name],
  );
  if (row !== undefined) return row;
  throw new PgkitError("move-stopped", `the subscription ${name} is gone`, {
    hint: "was it dropped by hand? pgkit move rollback, then move again",
  });
}

/** Workers start again after an error; this many of the same kind without progress between are no accident. */
const errorsToBelieve = 3;

/** A network that is cut comes back; after this it is told. */
const silenceMs = 300_000;

export interface FeedWatch {
  /** Give it what is known now; `progress` is any value that changes where the work has gone on. Throws `move-stopped`. */
  look(health: FeedHealth, progress: string, waitingFor: () => string): void;
}

/**
 * Tells a feed that fails again and again, and one whose servers do not reach each other, from one that is slow. A cut
 * connection counts as one error of the apply worker; what it cannot connect for afterwards is not counted.
 */
export function feedWatch({ clock, source, target, report }: MoveContext, name: string): FeedWatch {
  let seen: { progress: string; at: FeedHealth; sinceMs: number } | undefined;
  let told = false;
  return {
    look(health, progress, waitingFor) {
      const nowMs = clock.monotonicMs();
      if (seen === undefined || seen.progress !== progress) seen = { progress, at: health, sinceMs: nowMs };
      if (health.connected) {
        seen.sinceMs = nowMs;
        told = false;
      }
      const applying = health.applyErrors - seen.at.applyErrors;
      // Without a connection the workers that copy fail too, and that is not the fault of a table.
      const copying = health.connected ? health.copyErrors - seen.at.copyErrors : 0;
      if (Math.max(applying, copying) >= errorsToBelieve) throw keepsFailing(name, target.instance, waitingFor());
      const silentMs = nowMs - seen.sinceMs;
      const wait = { source: source.instance, target: target.instance, full: health.full };
      if (silentMs > silenceMs) throw standsStill(wait, name);
      if (silentMs > 15_000 && !told) {
        told = true;
        const { what, hint } = whyStill(wait);
        report({ type: "warning", message: `${what}; the move goes on when that has changed`, hint });
      }
    },
  };
}

function keepsFailing(name: string, target: string, waitingFor: string): PgkitError {
  const message = `the subscription ${name} on ${target} fails again and again: ${waitingFor}`;
  return new PgkitError("move-stopped", message, {
    hint: `the log of ${target} has the error (a full disk, a row that is there already, a table that differs): remove its cause and pgkit move resume, or pgkit move rollback`,
  });
}

interface Standstill {
  source: string;
  target: string;
  full: boolean;
}

function whyStill({ source, target, full }: Standstill): { what: string; hint: string } {
  if (full) {
    const hint = `raise max_logical_replication_workers of ${target} and restart it, or disable subscriptions that are not needed`;
    return { what: `${target} has no logical replication worker left for the move`, hint };
  }
  const hint = `instances.${source}.peer says how servers reach it; the log of ${target} has the error`;
  return { what: `${target} does not reach ${source}`, hint };
}

function standsStill(wait: Standstill, name: string): PgkitError {
  const { what, hint } = whyStill(wait);
  const message = `the subscription ${name} has stood still for ${silenceMs / 60_000} minutes: ${what}`;
  return new PgkitError("move-stopped", message, { hint: `${hint}; then pgkit move resume` });
}
