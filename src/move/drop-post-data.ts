import type { Session } from "../postgres/session.ts";
import type { MoveContext } from "./step.ts";

/** Drops indexes that a build by hand has left invalid: those of partitioned tables are so until their parts are attached. */
export async function dropInvalidIndexes({ session }: MoveContext): Promise<void> {
  await session("target", (target) =>
    runAll(
      target,
      `SELECT format('DROP INDEX %s', indexrelid::regclass) AS statement FROM pg_index i JOIN pg_class c ON c.oid = indexrelid
       WHERE NOT indisvalid AND relkind = 'i' AND indexrelid >= 16384
         AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype <> 'f')`,
    ),
  );
}

/**
 * Drops what comes after the data, as far as it would be in the way of copying that again: event triggers, publications,
 * foreign keys, triggers, rules, policies, indexes and, offline, keys. What extensions have made stays. Grants and
 * comments stay too: they are given again.
 */
export async function dropPostData({ session, move }: MoveContext): Promise<void> {
  await session("target", async (target) => {
    for (const statements of postData(move.mode)) await runAll(target, statements);
  });
}

async function runAll(session: Session, statements: string): Promise<void> {
  for (const { statement } of await session.query<{ statement: string }>(statements)) await session.query(statement);
}

function postData(mode: "online" | "offline"): string[] {
  const keys = mode === "offline" ? ["f", "x", "p", "u"] : ["f", "x"];
  const identifies = mode === "offline" ? "false" : "(indisprimary OR indisreplident)";
  return [
    `SELECT format('DROP EVENT TRIGGER %I', evtname) AS statement FROM pg_event_trigger o WHERE ${own("pg_event_trigger")}`,
    `SELECT format('DROP PUBLICATION %I', pubname) AS statement FROM pg_publication WHERE pubname !~ '^pgkit_'`,
    ...keys.map(
      (type) => `SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS statement
        FROM pg_constraint o WHERE contype = '${type}' AND conrelid >= 16384 AND conparentid = 0 AND ${own("pg_constraint")}
          AND ${ownTable("conrelid")}`,
    ),
    `SELECT format('DROP TRIGGER %I ON %s', tgname, tgrelid::regclass) AS statement FROM pg_trigger o
      WHERE NOT tgisinternal AND tgparentid = 0 AND ${own("pg_trigger")} AND ${ownTable("tgrelid")}`,
    `SELECT format('DROP RULE %I ON %s', rulename, ev_class::regclass) AS statement FROM pg_rewrite o
      WHERE rulename <> '_RETURN' AND ev_class >= 16384 AND ${own("pg_rewrite")} AND ${ownTable("ev_class")}`,
    `SELECT format('DROP POLICY %I ON %s', polname, polrelid::regclass) AS statement FROM pg_policy o WHERE ${ownTable("polrelid")}`,
    `SELECT format('DROP STATISTICS %I.%I', nspname, stxname) AS statement FROM pg_statistic_ext o
      JOIN pg_namespace n ON n.oid = stxnamespace WHERE ${own("pg_statistic_ext")}`,
    `SELECT format('DROP INDEX IF EXISTS %s', indexrelid::regclass) AS statement FROM pg_index i
      WHERE indexrelid >= 16384 AND NOT ${identifies} AND ${ownTable("indrelid")}
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype <> 'f')
        AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = indexrelid)
        AND indrelid NOT IN (SELECT oid FROM pg_class WHERE relkind = 't')`,
  ];
}

/** Not of an extension. */
function own(catalog: string): string {
  return `NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = '${catalog}'::regclass AND d.objid = o.oid AND d.deptype = 'e')`;
}

function ownTable(column: string): string {
  return `NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = ${column} AND d.deptype = 'e')`;
}
