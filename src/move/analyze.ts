import type { Session } from "../postgres/session.ts";
import { relationOf } from "./copy-plan.ts";
import type { MoveContext } from "./step.ts";

/** Gives the planner of the target its statistics of all tables, the biggest first, `jobs` at once. */
export async function analyzeAll(context: MoveContext): Promise<void> {
  const left = await context.session("target", analyzable);
  const worker = () =>
    context.session("target", async (session) => {
      for (let table = left.shift(); table !== undefined; table = left.shift()) {
        await session.query(`ANALYZE ${relationOf(table)}`);
      }
    });
  const workers = Array.from({ length: Math.min(context.move.options.jobs, left.length) }, worker);
  const ended = await Promise.allSettled(workers);
  for (const each of ended) if (each.status === "rejected") throw each.reason;
}

/**
 * A partitioned table together with all its partitions, as ANALYZE does it: by itself PostgreSQL never would. Where one of
 * them is foreign, only the others: that server need not be there now.
 */
async function analyzable(session: Session): Promise<{ schema: string; name: string }[]> {
  return session.query(
    `WITH roots AS (SELECT oid, EXISTS (SELECT FROM pg_partition_tree(oid) JOIN pg_class f ON f.oid = relid AND f.relkind = 'f') AS foreign
       FROM pg_class WHERE relkind = 'p' AND NOT relispartition)
     SELECT nspname AS schema, relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
       LEFT JOIN roots ON roots.oid = pg_partition_root(c.oid)
     WHERE relpersistence <> 't' AND c.oid >= 16384
       AND (relkind = 'r' AND roots.foreign IS NOT false OR relkind = 'p' AND NOT relispartition AND NOT roots.foreign
         OR relkind = 'm' AND relispopulated)
     ORDER BY relpages DESC`,
  );
}
