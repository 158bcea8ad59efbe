import { PgkitError } from "../lib/errors.ts";
import type { SignalOption } from "../store/store.ts";
import type { Leftover } from "./inventory.ts";
import type { Keep } from "./keep.ts";
import { manifestIdentity, manifestPrefix } from "./layout.ts";
import { backupLease, heldLeases, type LeaseOptions, pruneLease, withLease } from "./lease.ts";
import type { Manifest } from "./manifest.ts";
import { removeBackup, removeLeftover, removeOrphanedKeep } from "./remove.ts";
import { removeWal, type WalRemoval } from "./remove-wal.ts";
import type { Repository } from "./repository.ts";
import { type BackupName, nameOf, type PrunePlan } from "./retention.ts";
import type { WalPlan } from "./wal-retention.ts";

export interface PruneOptions extends Omit<LeaseOptions, "withoutConditions"> {
  /** True when the user says that no other pgkit works on the repository, where the store cannot keep two apart. */
  singleWriter?: boolean | undefined;
}

export interface PruneResult {
  removed: Manifest[];
  leftovers: Leftover[];
  orphanedKeeps: Keep[];
  /** How many unfinished uploads were removed. */
  uploads: number;
  /** By lineage, where any was to go. */
  wal: WalRemoval[];
  /** What was to go and stays, as it was pinned or locked since, or changed. */
  skipped: (BackupName & { reason: string })[];
  /** What the store refused to remove although nothing said that it would. */
  refused: (BackupName & { error: PgkitError })[];
}

/** How many backups are removed at once, each by some requests in a row. */
const parallelRemovals = 8;

/**
 * Does what the plan says, and nothing else; of what changed since it was made, everything stays. A run that is cut at
 * any moment leaves no backup without its files: manifests go first. What stays behind is collected by a later run, as a
 * leftover. Fails with `locked`, with `store-unsupported` where the store ignores conditions and `singleWriter` is not
 * set, and with `condition-failed` when a backup that the plan keeps is gone.
 */
export async function prune(
  repository: Repository,
  plan: PrunePlan<Manifest>,
  { singleWriter = false, ...options }: PruneOptions,
): Promise<PruneResult> {
  const withoutConditions = singleWriter ? "proceed" : "refuse";
  return await withLease(repository, pruneLease, { ...options, withoutConditions }, async (signal) => {
    await assertKeptAreThere(repository, plan, { signal });
    return await carryOut(repository, plan, { ...options, signal });
  }).catch((error: unknown) => {
    throw explained(error);
  });
}

async function carryOut(
  repository: Repository,
  plan: PrunePlan<Manifest>,
  options: LeaseOptions & { signal: AbortSignal },
): Promise<PruneResult> {
  const { clock, report, signal } = options;
  const result: PruneResult = {
    ...{ removed: [], leftovers: [], orphanedKeeps: [], uploads: 0, wal: [] },
    ...{ skipped: [], refused: [] },
  };
  const task = `prune ${repository.where}`;
  const startedMs = clock.monotonicMs();
  const totalBytes = plan.remove.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
  report({ type: "start", task, totalBytes });
  await removeBackups(repository, plan, result, options, (bytes) => {
    report({ type: "progress", task, bytes, totalBytes });
  });
  await inParallel(plan.leftovers, async (leftover) => {
    const outcome = await removeLeftover(repository, leftover, clock.now(), { signal });
    if (outcome === "removed") result.leftovers.push(leftover);
    else note(result, leftover, outcome);
  });
  for (const keep of plan.orphanedKeeps) {
    if (await removeOrphanedKeep(repository, keep, { signal })) result.orphanedKeeps.push(keep);
  }
  if (plan.uploads !== undefined && plan.uploads.count > 0) {
    result.uploads = (await repository.store.uploads?.abort(plan.uploads.before, { signal })) ?? 0;
  }
  for (const wal of plan.wal) await removeWalUnlessNeeded(repository, wal, result, options);
  const bytes = result.removed.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
  const seconds = (clock.monotonicMs() - startedMs) / 1000;
  report({ type: "done", task, bytes, seconds, summary: `${result.removed.length} backups removed` });
  return result;
}

async function removeBackups(
  repository: Repository,
  plan: PrunePlan<Manifest>,
  result: PruneResult,
  options: LeaseOptions,
  onBytes: (bytes: number) => void,
): Promise<void> {
  const remove = async (backup: Manifest) => {
    if (!(await removeOne(repository, plan, result, backup, options))) return;
    onBytes(result.removed.reduce((sum, { storedBytes }) => sum + storedBytes, 0));
  };
  // Base backups one after the other, as children go before their parents.
  for (const backup of plan.remove.filter(({ kind }) => kind === "base")) {
    const busy = await isBusy(repository, backup.instance, options, options.clock.now());
    if (busy) note(result, backup, underWay(backup));
    else await remove(backup);
  }
  await inParallel(
    plan.remove.filter(({ kind }) => kind !== "base"),
    remove,
  );
}

/** True when it was removed. A backup that stays holds what it builds on. */
async function removeOne(
  repository: Repository,
  { remove }: PrunePlan<Manifest>,
  result: PruneResult,
  backup: Manifest,
  { clock, signal }: LeaseOptions,
): Promise<boolean> {
  const stays = new Set([...result.skipped, ...result.refused].map(nameOf));
  const child = remove.find((other) => stays.has(nameOf(other)) && buildsOn(other, backup));
  if (child !== undefined) {
    note(result, backup, { skipped: `parent of ${child.id}, which stays` });
    return false;
  }
  const outcome = await removeBackup(repository, backup, clock.now(), { signal });
  if (outcome !== "removed") note(result, backup, outcome);
  else result.removed.push(backup);
  return outcome === "removed";
}

/** WAL last of all: whenever a run is cut, every backup that is still there has what it needs. */
async function removeWalUnlessNeeded(
  repository: Repository,
  wal: WalPlan,
  result: PruneResult,
  { clock, signal }: LeaseOptions,
): Promise<void> {
  const { instance, systemId } = wal.lineage;
  if (wal.remove.length + wal.removeGaps.length === 0) return;
  const stays = [...result.skipped, ...result.refused].find((backup) => backup.instance === instance);
  const busy = await isBusy(repository, instance, { signal }, clock.now());
  if (stays === undefined && !busy) {
    result.wal.push(await removeWal(repository, wal, { signal }));
    return;
  }
  const skipped = busy ? underWay({ instance }).skipped : `${stays?.id} stays, and may need it`;
  result.wal.push({ instance, systemId, files: 0, bytes: 0, gaps: 0, skipped });
}

/** A backup that began since the plan was made: an incremental one builds on a base backup that is there. */
async function isBusy(repository: Repository, instance: string, options: SignalOption, now: Date): Promise<boolean> {
  const { clockSkewMs } = await repository.store.capabilities(options);
  const held = await heldLeases(repository, new Date(now.getTime() + clockSkewMs), options);
  return held.has(backupLease(instance));
}

function underWay({ instance }: { instance: string }): { skipped: string } {
  return { skipped: `a backup of ${instance} is under way` };
}

function buildsOn(child: Manifest, backup: Manifest): boolean {
  return child.instance === backup.instance && child.parent === backup.id;
}

function note(
  result: PruneResult,
  { instance, id }: BackupName,
  outcome: { skipped: string } | { refused: PgkitError },
): void {
  if ("skipped" in outcome) result.skipped.push({ instance, id, reason: outcome.skipped });
  else result.refused.push({ instance, id, error: outcome.refused });
}

/** Another prune may have removed, by another policy, the very backup that lets this plan remove the others. */
async function assertKeptAreThere(
  { store, where }: Repository,
  { keep }: PrunePlan<Manifest>,
  options: SignalOption,
): Promise<void> {
  const missing = new Set(keep.map(({ backup }) => nameOf(backup)));
  for await (const { key } of store.list(manifestPrefix, options)) {
    const found = manifestIdentity(key);
    if (found !== undefined) missing.delete(nameOf(found));
  }
  const [gone] = missing;
  if (gone === undefined) return;
  throw new PgkitError("condition-failed", `backup ${gone}, which was to stay, is gone from ${where} by now`, {
    hint: "another run has pruned meanwhile; nothing was removed: run the command again",
  });
}

/** All of `items`, several at once. After a failure no other is begun, and those under way are waited for. */
async function inParallel<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  const worker = async () => {
    try {
      for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
    } catch (error) {
      queue.length = 0;
      throw error;
    }
  };
  const ends = await Promise.allSettled(Array.from({ length: parallelRemovals }, worker));
  for (const end of ends) if (end.status === "rejected") throw end.reason;
}

function explained(error: unknown): unknown {
  if (!(error instanceof PgkitError) || error.code !== "store-unsupported") return error;
  const hint = "give --single-writer when you are sure that no other pgkit works on this repository";
  return new PgkitError("store-unsupported", error.message, { hint, cause: error });
}
