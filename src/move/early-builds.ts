import { type ComingTables, isBuild, planBuilds, runBuilds, smallCost } from "./build-order.ts";
import { buildSettings } from "./build-settings.ts";
import { postEntries } from "./post-data.ts";
import { withSchemaArchive } from "./schema-archive.ts";
import type { MoveContext } from "./step.ts";

/**
 * Builds the big indexes of each table as soon as its rows are there, while others are still copied: what one waits for, the
 * other uses. The small ones, and what is between tables, are left to `build-indexes`.
 */
export async function buildEarly(context: MoveContext, coming: ComingTables, copied: readonly number[]): Promise<void> {
  const { jobs } = context.move.options;
  const tables = new Set(copied);
  await withSchemaArchive(context, async (archive) => {
    const entries = (await postEntries(context, archive)).filter(
      (entry) => isBuild(entry) && !entry.exists && entry.cost >= smallCost && tables.has(entry.table ?? 0),
    );
    const settings = await context.session("target", (session) => buildSettings(session, jobs));
    await runBuilds(planBuilds(entries), jobs, (build) => archive.load(build.entries, { settings }), coming);
  });
}

/** Tables that `add` says to be there. A failed `signal` ends who waits for more. */
export function comingTables(signal: AbortSignal): ComingTables & { add(table: number): void } {
  const there = new Set<number>();
  let more = Promise.withResolvers<void>();
  more.promise.catch(() => undefined);
  signal.addEventListener("abort", () => more.reject(signal.reason));
  return {
    has: (table) => there.has(table),
    next: () => more.promise,
    add: (table) => {
      there.add(table);
      more.resolve();
      more = Promise.withResolvers<void>();
      more.promise.catch(() => undefined);
    },
  };
}
