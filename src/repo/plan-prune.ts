import pLimit from "p-limit";
import type { SignalOption } from "../store/store.ts";
import type { Inventory } from "./inventory.ts";
import { lockedUntil } from "./locks.ts";
import type { Manifest } from "./manifest.ts";
import type { RepositoryReader } from "./repository.ts";
import { nameOf, type PruneInput, type PrunePlan, planPrune } from "./retention.ts";

export interface PlanOptions extends SignalOption, Pick<PruneInput<Manifest>, "policies" | "timeZone" | "now" | "bad"> {
  /** Plan for these instances alone, as if nothing else were stored; for all where left out. */
  only?: ReadonlySet<string> | undefined;
}

const parallelBackups = 8;

/**
 * `planPrune` on an inventory, with what the store itself says about object lock. Only the backups that would go are
 * asked about, some requests each; as a lock only ever adds to what is kept, asking once is enough.
 */
export async function planWithLocks(
  repository: RepositoryReader,
  inventory: Inventory,
  { only, signal, ...rules }: PlanOptions,
): Promise<PrunePlan<Manifest>> {
  const input = { ...(only === undefined ? inventory : restrictedTo(inventory, only)), ...rules };
  const plan = planPrune(input);
  const limit = pLimit(parallelBackups);
  const locked = new Map<string, Date>();
  const look = async (backup: Manifest) => {
    const until = await lockedUntil(repository, backup, { signal });
    if (until !== undefined) locked.set(nameOf(backup), until);
  };
  await Promise.all(plan.remove.map((backup) => limit(look, backup)));
  return locked.size === 0 ? plan : planPrune({ ...input, locked });
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
  };
}
