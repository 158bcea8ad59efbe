import type { Session } from "../postgres/session.ts";
import { toolInput, toolOutput } from "../postgres/tools.ts";
import { connectionString } from "../restore/load.ts";
import type { MoveContext } from "./step.ts";
import { sourceFor, targetOf } from "./target-database.ts";

/** So many are unlinked in one transaction: each takes a lock. */
const unlinkedAtOnce = 500;

/** Copies all large objects with owners, grants and comments, by a dump of nothing else that goes straight into pg_restore. */
export async function copyLargeObjects(context: MoveContext, snapshot: string, signal: AbortSignal): Promise<number> {
  const count = await context.session("source", countLargeObjects);
  await context.session("target", unlinkAll);
  if (count === 0) return 0;
  const source = await sourceFor({ ...context, signal });
  const target = { ...(await targetOf(context, context.move.database, { synchronous_commit: "off" })), signal };
  // With the data of no table, what is left as data are the large objects and all that belongs to them.
  const nothingElse = ["--data-only", "--exclude-table-data=*.*", "-b", "--no-sync", `--snapshot=${snapshot}`];
  const dump = toolOutput(source, "pg_dump", ["--format=custom", "--compress=0", "--no-password", ...nothingElse]);
  await toolInput(target, "pg_restore", ["--exit-on-error", "--no-password", connectionString(target.database)], dump);
  return count;
}

export async function countLargeObjects(session: Session): Promise<number> {
  const [row] = await session.query<{ count: number }>("SELECT count(*)::int AS count FROM pg_largeobject_metadata");
  return row?.count ?? 0;
}

/** What a copy that was cut has left. */
export async function unlinkAll(session: Session): Promise<void> {
  for (;;) {
    const gone = await session.query(
      `SELECT lo_unlink(oid) FROM (SELECT oid FROM pg_largeobject_metadata LIMIT ${unlinkedAtOnce}) AS left_over`,
    );
    if (gone.length < unlinkedAtOnce) return;
  }
}
