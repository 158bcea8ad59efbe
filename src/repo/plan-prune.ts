import pLimit from "p-limit";
import { formatDuration } from "../lib/parse.ts";
import type { SignalOption } from "../store/store.ts";
import type { Inventory } from "./inventory.ts";
import { lockedUntil } from "./locks.ts";
import type { Manifest } from "./manifest.ts";
import type { RepositoryReader } from "./repository.ts";
import { nameOf, type PruneInput, type PrunePlan, planPrune } from "./retention.ts";
import { planWal, windowAnchors } from "./wal-retention.ts";

export interface PlanOptions extends SignalOption, Pick<PruneInput<Manifest>, "policies" | "timeZone" | "now" | "bad"> {
  /** Plan for these instances alone, as if nothing else were stored; for all where left out. */
  only?: ReadonlySet<string> | undefined;
}

const parallelBackups = 8;

/**
 * `planPrune` and `planWal` on an inventory, with what the store itself says about object lock. Only the backups that
 * would go are asked about, some requests each; as a lock only ever adds to what is kept, asking once is enough.
 */
export async function planWithLocks(
  repository: RepositoryReader,
  inventory: Inventory,
  { only, signal, ...rules }: PlanOptions,
): Promise<PrunePlan<Manifest>> {
  const restricted = only === undefined ? inventory : restrictedTo(inventory, only);
  const input = { ...restricted, ...rules, anchors: anchorsOf(restricted, rules) };
  const plan = planPrune(input);
  const limit = pLimit(parallelBackups);
  const locked = new Map<string, Date>();
  const look = async (backup: Manifest) => {
    const until = await lockedUntil(repository, backup, { signal });
    if (until !== undefined) locked.set(nameOf(backup), until);
  };
  await Promise.all(plan.remove.map((backup) => limit(look, backup)));
  return withWal(locked.size === 0 ? plan : planPrune({ ...input, locked }), restricted, rules.now, repository);
}

function withWal(
  plan: PrunePlan<Manifest>,
  { backups, unreadable, busy, wal, warnings }: Inventory,
  now: Date,
  { retainMs }: RepositoryReader,
): PrunePlan<Manifest> {
  const keep = plan.keep.map(({ backup }) => ({ backup, pinOnly: plan.pinOnly.has(nameOf(backup)) }));
  return {
    ...plan,
    wal: planWal({ wal, keep, backups, unreadable, busy, now, retainMs }),
    warnings: [...plan.warnings, ...warnings],
  };
}

/** The base backups that a window needs because of the timelines, once among the good ones and once among all. */
function anchorsOf(
  { backups, wal }: Inventory,
  { policies, now, bad }: Pick<PlanOptions, "policies" | "now" | "bad">,
): Map<string, string> {
  const anchors = new Map<string, string>();
  const good = backups.filter((backup) => bad?.has(nameOf(backup)) !== true);
  for (const stored of wal) {
    const windowMs = policies.get(stored.inventory.lineage.instance)?.base.windowMs ?? 0;
    if (windowMs === 0) continue;
    for (const list of [good, backups]) {
      for (const backup of windowAnchors(list, stored, new Date(now.getTime() - windowMs))) {
        anchors.set(nameOf(backup), `beginning of the window ${formatDuration(windowMs)}`);
      }
    }
  }
  return anchors;
}

/** Unfinished uploads can be told apart by instance in some stores only, so they wait for a prune of all. */
function restrictedTo(inventory: Inventory, only: ReadonlySet<string>): Inventory {
  const isOf = ({ instance }: { instance: string }) => only.has(instance);
  return {
    backups: inventory.backups.filter(isOf),
    unreadable: inventory.unreadable.filter(isOf),
    keeps: inventory.keeps.filter(isOf),
    leftovers: inventory.leftovers.filter(isOf),
    uploads: undefined,
    busy: inventory.busy,
    wal: inventory.wal.filter(({ inventory: { lineage } }) => isOf(lineage)),
    warnings: inventory.warnings,
  };
}
