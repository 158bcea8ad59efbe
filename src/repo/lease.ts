import { PgkitError } from "../lib/errors.ts";
import type { SignalOption } from "../store/store.ts";
import { leaseNameOf, leasePrefix } from "./layout.ts";
import { type TakeOptions, takeLease } from "./lease-take.ts";
import { isLive, latestTerm } from "./lease-term.ts";
import { giveBack, keepUp } from "./lease-upkeep.ts";
import type { Repository, RepositoryReader } from "./repository.ts";

export interface LeaseOptions extends TakeOptions {
  /** What to do on a store that ignores conditions, where two runs cannot be kept apart; `refuse` where left out. */
  withoutConditions?: "proceed" | "refuse" | undefined;
}

/**
 * Two minutes: a store may be away for 100 seconds, longer than its client goes on trying, before a backup of hours is
 * stopped; and the run after one that was killed has to wait 140 seconds at most.
 */
export const defaultLeaseMs = 120_000;

/** Stores give times to the second, so that shorter leases could not be told from expired ones. */
export const shortestLeaseMs = 12_000;

/** Held by whoever removes backups. */
export const pruneLease = "prune";

/** Held by whoever makes backups of an instance; only while nobody does, prune takes unfinished files for leftovers. */
export function backupLease(instance: string): string {
  return `${backupLeasePrefix}${instance}`;
}

export const backupLeasePrefix = "backup-";

/**
 * Runs `run` while nobody else holds the lease `name` of the repository, renewing it meanwhile. Its signal is aborted
 * when `signal` is, and when the lease is lost: well before another can take it. Fails with `locked`, naming the holder,
 * and with `store-unsupported` where the store ignores conditions. Why it is sound: `docs/decisions/0003-leases.md`.
 */
export async function withLease<T>(
  repository: Repository,
  name: string,
  options: LeaseOptions,
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { clock, report, signal } = options;
  assertLongEnough(options.ttlMs);
  if (!(await keepsConditions(repository, name, options))) return await run(signal ?? new AbortController().signal);
  const held = await takeLease(repository, name, options);
  const done = new AbortController();
  const lost = new AbortController();
  const upkeep = keepUp(held, clock, done.signal, lost);
  try {
    return await run(signal === undefined ? lost.signal : AbortSignal.any([signal, lost.signal]));
  } finally {
    done.abort();
    await upkeep;
    if (!lost.signal.aborted) await giveBack(held, report);
  }
}

/** The names of all leases that somebody holds at `storeNow`, a time of the store's clock. */
export async function heldLeases(
  { store }: RepositoryReader,
  storeNow: Date,
  options: SignalOption = {},
): Promise<Set<string>> {
  const names = new Set<string>();
  for await (const { key } of store.list(leasePrefix, options)) names.add(leaseNameOf(key) ?? "");
  const held = new Set<string>();
  for (const name of names) {
    const term = name === "" ? undefined : await latestTerm(store, name, options);
    if (term !== undefined && isLive(term, storeNow)) held.add(name);
  }
  return held;
}

function assertLongEnough(ttlMs: number): void {
  if (ttlMs >= shortestLeaseMs) return;
  throw new PgkitError("config", `a lease of ${ttlMs} ms is too short`, {
    hint: `set lease.ttl to ${shortestLeaseMs / 1000}s or more`,
  });
}

async function keepsConditions(
  { store, where }: Repository,
  name: string,
  { withoutConditions = "refuse", report, signal }: LeaseOptions,
): Promise<boolean> {
  const { createIfAbsent } = await store.capabilities({ signal });
  if (createIfAbsent) return true;
  const message = `${where} ignores conditional writes, so the lease ${name} cannot keep two runs apart`;
  const hint = "make sure that no other pgkit works on this repository at the same time";
  if (withoutConditions === "refuse") throw new PgkitError("store-unsupported", message, { hint });
  report({ type: "warning", message, hint });
  return false;
}
