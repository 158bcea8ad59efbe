import { PgkitError } from "../lib/errors.ts";
import type { Session } from "../postgres/session.ts";
import type { MoveContext, Side } from "./step.ts";

/** Of each object of the schema that a copy depends on, a hash of how it is defined; by `table public.orders` and the like. */
export type SchemaFingerprint = Record<string, string>;

/** What replication does not carry, and a copy under way would miss: tables with all that is theirs, types, code, views. */
export async function schemaFingerprint(session: Session): Promise<SchemaFingerprint> {
  const rows = await session.query<{ what: string; hash: string }>(
    `WITH own AS (SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema')
     SELECT CASE c.relkind WHEN 'S' THEN 'sequence ' WHEN 'v' THEN 'view ' WHEN 'm' THEN 'view ' ELSE 'table ' END
         || nspname || '.' || c.relname AS what,
       md5(concat_ws('|', c.relkind, c.relpersistence, c.relreplident, c.relrowsecurity, c.relforcerowsecurity,
         c.relowner::regrole, c.relispartition, pg_get_expr(c.relpartbound, c.oid), c.reloptions,
         CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END,
         (SELECT string_agg(concat_ws(',', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated,
             a.attidentity, a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid)), ';' ORDER BY a.attnum)
           FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
         (SELECT string_agg(pg_get_indexdef(i.indexrelid) || i.indisvalid || i.indisreplident, ';' ORDER BY i.indexrelid::regclass::text)
           FROM pg_index i WHERE i.indrelid = c.oid),
         (SELECT string_agg(k.conname || pg_get_constraintdef(k.oid) || k.convalidated, ';' ORDER BY k.conname)
           FROM pg_constraint k WHERE k.conrelid = c.oid),
         (SELECT string_agg(pg_get_triggerdef(t.oid) || t.tgenabled::text, ';' ORDER BY t.tgname)
           FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal))) AS hash
     FROM pg_class c JOIN own ON own.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
       AND c.relpersistence <> 't'
     UNION ALL SELECT 'function ' || nspname || '.' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')',
       md5(concat_ws('|', p.prosrc, p.probin, pg_get_function_sqlbody(p.oid), p.proargdefaults, p.proconfig, p.prosecdef, p.provolatile, p.proowner::regrole))
     FROM pg_proc p JOIN own ON own.oid = p.pronamespace
     UNION ALL SELECT 'type ' || nspname || '.' || t.typname,
       md5(concat_ws('|', t.typtype, t.typnotnull, t.typdefault, format_type(t.typbasetype, t.typtypmod),
         (SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid),
         (SELECT string_agg(k.conname || pg_get_constraintdef(k.oid), ';' ORDER BY k.conname) FROM pg_constraint k WHERE k.contypid = t.oid)))
     FROM pg_type t JOIN own ON own.oid = t.typnamespace WHERE t.typtype IN ('e', 'd', 'r')`,
  );
  return Object.fromEntries(rows.map(({ what, hash }) => [what, hash]));
}

/** What was made, dropped or altered between the two, such as `table public.orders was altered`. */
export function schemaChanges(before: SchemaFingerprint, after: SchemaFingerprint): string[] {
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
  return names.flatMap((name) => {
    if (before[name] === after[name]) return [];
    if (after[name] === undefined) return [`${name} was dropped`];
    return [`${name} was ${before[name] === undefined ? "made" : "altered"}`];
  });
}

/** Fails with `move-stopped`, naming what has changed on this side since `before`. */
export async function refuseSchemaChanges(
  context: MoveContext,
  side: Side,
  before: SchemaFingerprint,
  hint = "pgkit move rollback, and move again when the change is done: while a move copies, nothing may be altered",
): Promise<void> {
  const changes = schemaChanges(before, await context.session(side, schemaFingerprint));
  if (changes.length === 0) return;
  const what = changes.length > 5 ? [...changes.slice(0, 5), `${changes.length - 5} more changes`] : changes;
  const message = `the schema of ${context.move.database} on ${context[side].instance} has changed since: ${what.join("; ")}`;
  throw new PgkitError("move-stopped", message, { hint });
}
