import { PgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import type { ObjectStore } from "../store/store.ts";
import { leaseTermKey } from "./layout.ts";
import { describeTerm, type LeaseRecord, latestTerm, leaseMarginMs, putTerm, tidyTerms } from "./lease-term.ts";

/** A lease that this process holds. */
export interface HeldLease {
  store: ObjectStore;
  name: string;
  number: number;
  record: LeaseRecord;
  /** On the monotonic clock: by then the lease must be renewed, or the work stopped. */
  safeUntilMs: number;
}

/** Counted from before the term was sent: the store's clock starts later, so that another's patience ends later. */
export function safeUntilMs(sentMs: number, ttlMs: number): number {
  return sentMs + ttlMs - leaseMarginMs(ttlMs);
}

/** Renews the lease until `done`; aborts `lost` when another has it, or when it could not be renewed in time. */
export async function keepUp(held: HeldLease, clock: Clock, done: AbortSignal, lost: AbortController): Promise<void> {
  const over = AbortSignal.any([done, lost.signal]);
  const trouble: { last?: unknown } = {};
  await Promise.all([renewAgainAndAgain(held, clock, over, lost, trouble), watch(held, clock, over, lost, trouble)]);
}

/** How long giving it back may take: whoever stops a run on a store that keeps silent wants to see it end. */
const giveBackMs = 5_000;

/** Leaves a term that says so and never removes the last one: another may have taken the lease before the removal. */
export async function giveBack(
  { store, name, record }: Pick<HeldLease, "store" | "name" | "record">,
  report: Report,
): Promise<void> {
  const signal = AbortSignal.timeout(giveBackMs);
  try {
    for (;;) {
      const latest = await latestTerm(store, name, { signal });
      if (latest?.record.token !== record.token) return;
      const number = latest.number + 1;
      if (await putTerm(store, name, number, { ...record, released: true }, { signal })) {
        return await tidyTerms(store, name, number, { signal });
      }
    }
  } catch (error) {
    // The work is done, and the lease ends by itself; failing now would call done work failed.
    const message = `the lease ${name} could not be given back: ${error instanceof Error ? error.message : String(error)}`;
    report({ type: "warning", message, hint: `others can take it in ${Math.ceil(record.ttlMs / 60_000)} minutes` });
  }
}

async function renewAgainAndAgain(
  held: HeldLease,
  clock: Clock,
  over: AbortSignal,
  lost: AbortController,
  trouble: { last?: unknown },
): Promise<void> {
  const { ttlMs } = held.record;
  let firstSentMs: number | undefined;
  let waitMs = ttlMs / 3;
  while (await waited(clock, waitMs, over)) {
    // A failed request may have been carried out all the same, so the first one of a number dates its term.
    firstSentMs ??= clock.monotonicMs();
    try {
      const renewed = await renew(held, firstSentMs, AbortSignal.any([over, AbortSignal.timeout(ttlMs / 4)]));
      if (!renewed) return await loseToAnother(held, lost);
      waitMs = Math.max(0, firstSentMs + ttlMs / 3 - clock.monotonicMs());
      firstSentMs = undefined;
    } catch (error) {
      trouble.last = error;
      waitMs = ttlMs / 12;
    }
  }
}

/** False when another has the lease. */
async function renew(held: HeldLease, sentMs: number, signal: AbortSignal): Promise<boolean> {
  const { store, name, record } = held;
  if (!(await putTerm(store, name, held.number + 1, record, { signal }))) return false;
  held.number += 1;
  held.safeUntilMs = safeUntilMs(sentMs, record.ttlMs);
  // The lease is renewed whether this works or not; what stays is removed when it is given back or next taken.
  await store.delete([leaseTermKey(name, held.number - 1)], { signal }).catch(() => undefined);
  return true;
}

async function loseToAnother({ store, name }: HeldLease, lost: AbortController): Promise<void> {
  const term = await latestTerm(store, name).catch(() => undefined);
  const by = term === undefined ? "another run" : describeTerm(term);
  lost.abort(new PgkitError("locked", `the lease ${name} of ${store.where} was taken by ${by}`, { hint }));
}

const hint = "was this machine suspended? run the command again; nothing half-done counts";

async function watch(
  held: HeldLease,
  clock: Clock,
  over: AbortSignal,
  lost: AbortController,
  trouble: { last?: unknown },
): Promise<void> {
  while (await waited(clock, held.safeUntilMs - clock.monotonicMs(), over)) {
    if (clock.monotonicMs() < held.safeUntilMs) continue;
    const { name, store } = held;
    const said = trouble.last instanceof Error ? `: ${trouble.last.message}` : "";
    const message = `the lease ${name} of ${store.where} could not be renewed in time, so the work was stopped${said}`;
    lost.abort(new PgkitError("store-unreachable", message, { hint: "run the command again", cause: trouble.last }));
  }
}

/** Waits; false when it is over. */
async function waited(clock: Clock, ms: number, over: AbortSignal): Promise<boolean> {
  if (over.aborted) return false;
  try {
    await clock.delay(Math.max(0, ms), over);
    return true;
  } catch (error) {
    if (over.aborted) return false;
    throw error;
  }
}
