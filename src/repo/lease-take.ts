import { randomUUID } from "node:crypto";
import { PgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import { type Clock, rfc3339 } from "../lib/time.ts";
import type { ObjectStore, SignalOption } from "../store/store.ts";
import { leaseTermKey } from "./layout.ts";
import {
  describeTerm,
  isLive,
  type LeaseHolder,
  type LeaseRecord,
  type LeaseTerm,
  latestTerm,
  putTerm,
  storeTime,
  takeableAt,
  tidyTerms,
} from "./lease-term.ts";
import { giveBack, type HeldLease, safeUntilMs } from "./lease-upkeep.ts";
import type { Repository } from "./repository.ts";

export interface TakeOptions extends SignalOption {
  clock: Clock;
  holder: LeaseHolder;
  /** How long the lease outlives a killed holder; at least `shortestLeaseMs`. */
  ttlMs: number;
  /** How long to wait for another holder; not at all where left out. */
  waitMs?: number | undefined;
  /** True for a holder that is known to have ended without giving the lease back: it is taken at once. */
  isGone?: ((holder: LeaseHolder) => boolean) | undefined;
  report: Report;
}

/** Takes the lease as soon as nobody holds it. Fails with `locked` when somebody still does after `waitMs`. */
export async function takeLease(repository: Repository, name: string, options: TakeOptions): Promise<HeldLease> {
  const { clock, report, signal, ttlMs, waitMs = 0 } = options;
  const giveUpMs = clock.monotonicMs() + waitMs;
  const { host, pid, command } = options.holder;
  const since = rfc3339(clock.now());
  const record: LeaseRecord = { format: 1, holder: { host, pid, command }, since, ttlMs, token: randomUUID() };
  for (let waited = false; ; waited = true) {
    const result = await tryTake(repository.store, name, record, options);
    if ("held" in result) return result.held;
    const leftMs = giveUpMs - clock.monotonicMs();
    if (leftMs <= 0) throw locked(repository, name, result.by);
    if (!waited) report({ type: "note", message: `waiting for ${describeTerm(result.by)}` });
    await clock.delay(Math.min(leftMs, ttlMs / 12), signal);
  }
}

async function tryTake(
  store: ObjectStore,
  name: string,
  record: LeaseRecord,
  options: TakeOptions,
): Promise<{ held: HeldLease } | { by: LeaseTerm }> {
  const { clock, signal, report } = options;
  for (;;) {
    const before = await latestTerm(store, name, { signal });
    const mayBeHeld = before !== undefined && before.record.released !== true && before.record.token !== record.token;
    const isGone = before !== undefined && options.isGone?.(before.record.holder) === true;
    if (mayBeHeld && !isGone && isLive(before, await storeTime(store, name, randomUUID(), { signal })))
      return { by: before };
    const number = (before?.number ?? 0) + 1;
    const sentMs = clock.monotonicMs();
    try {
      if (!(await putTerm(store, name, number, record, { signal }))) continue;
      if (!(await isLatest(store, name, number, { signal }))) continue;
      await tidyTerms(store, name, number, { signal });
    } catch (error) {
      // The term may be there although this failed, and would keep the next run waiting for its end.
      await giveBack({ store, name, record }, report);
      throw error;
    }
    const held = { store, name, number, record, safeUntilMs: safeUntilMs(sentMs, record.ttlMs) };
    // All this may have taken so long that the lease is over before the work begins.
    if (clock.monotonicMs() < held.safeUntilMs) return { held };
  }
}

/** Slow runs may write a number that is past already and was tidied away; the highest alone counts. */
async function isLatest(store: ObjectStore, name: string, number: number, options: SignalOption): Promise<boolean> {
  const after = await latestTerm(store, name, options);
  if (after !== undefined && after.number >= number) return after.number === number;
  throw new PgkitError("store-failed", `${store.where} does not list ${leaseTermKey(name, number)}, just stored`, {
    hint: "a store must list what it has stored at once: run pgkit check",
  });
}

function locked({ where }: Repository, name: string, term: LeaseTerm): PgkitError {
  return new PgkitError("locked", `another run holds the lease ${name} of ${where}: ${describeTerm(term)}`, {
    hint: `wait for it to end; if it was killed, the lease ends by itself at ${rfc3339(takeableAt(term))}`,
  });
}
