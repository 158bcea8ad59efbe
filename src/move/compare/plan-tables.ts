import type { ProvableTable } from "./table-list.ts";

export interface TablePlan {
  /** Hashed in full on both sides, biggest first. */
  readonly whole: readonly ProvableTable[];
  /** Too big for the time that is there. */
  readonly sampled: readonly ProvableTable[];
  /** Of these, what can at least be counted. */
  readonly counted: readonly ProvableTable[];
}

/** How much faster rows are counted than hashed; measured at 6 to 10 on tables of few columns. */
const countingFactor = 6;

/** As much is compared in full whatever the budget says: it costs some ten milliseconds. */
const leastBytes = 2 * 1024 * 1024;

/** Parts of the budget: the rest is for samples. */
const [wholeShare, countShare] = [0.6, 0.2];

/**
 * Which tables are compared in full within `budgetMs`: the small ones first, so that as many as can be are; those that
 * are left are sampled and, where time allows, counted. `bytesPerMs` is what one worker hashes.
 */
export function planTables(
  tables: readonly ProvableTable[],
  { budgetMs, bytesPerMs, jobs }: { budgetMs: number; bytesPerMs: number; jobs: number },
): TablePlan {
  const affordable = take(tables, Math.max(leastBytes, budgetMs * wholeShare * bytesPerMs * jobs));
  const sampled = tables.filter((table) => !affordable.has(table));
  const counted = take(sampled, budgetMs * countShare * bytesPerMs * jobs * countingFactor);
  return { whole: tables.filter((table) => affordable.has(table)), sampled, counted: [...counted] };
}

function take(tables: readonly ProvableTable[], bytes: number): Set<ProvableTable> {
  const taken = new Set<ProvableTable>();
  let left = bytes;
  for (const table of tables.toSorted((a, b) => a.bytes - b.bytes)) {
    left -= table.bytes;
    if (left < 0) break;
    taken.add(table);
  }
  return taken;
}
