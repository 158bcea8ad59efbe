import type { Session } from "../postgres/session.ts";
import type { SchemaArchive, SchemaEntry } from "./schema-archive.ts";
import type { MoveContext } from "./step.ts";

/** One entry of what is made after the data, and what must be known of it to build it. */
export interface PostEntry extends SchemaEntry {
  /** On the target already. */
  exists: boolean;
  /** Of an index or a constraint: its table, and the bytes that are read and written to build it. */
  table: number | undefined;
  cost: number;
  /** Of a materialized view, which itself may come only after the data. */
  ofView: boolean;
  /** What finds a row when changes are applied: a primary key, a unique constraint, a replica identity. */
  identifies: boolean;
}

/**
 * What comes after the data, without what is pgkit's own, in the archive's order. What is on the target already is told by
 * the catalogs, so that a build that was cut goes on.
 */
export async function postEntries(context: MoveContext, archive: SchemaArchive): Promise<PostEntry[]> {
  const entries = await archive.list("post-data");
  const facts = await context.session("source", (session) => factsOf(session, entries));
  const there = new Set(await context.session("target", identitiesOf));
  return entries.flatMap((entry, index) => {
    const found = facts[index];
    if (found === undefined || found.ours) return [];
    const exists = !found.again && !repeatable.has(entry.type) && found.identity !== null && there.has(found.identity);
    const { table, cost, identifies, ofView } = found;
    return [{ ...entry, exists, table: table ?? undefined, ofView, cost, identifies }];
  });
}

/** Entries that change nothing when they are done again, and whose object may be there before them. */
const repeatable = new Set([
  ...[
    "ACL",
    "DEFAULT",
    "DEFAULT ACL",
    "COMMENT",
    "SECURITY LABEL",
    "ROW SECURITY",
    "INDEX ATTACH",
    "MATERIALIZED VIEW DATA",
  ],
]);

interface EntryFacts {
  identity: string | null;
  /** Its object is there before it: a view's rule that replaces a placeholder, the state of a partition's trigger. */
  again: boolean;
  ours: boolean;
  table: number | null;
  ofView: boolean;
  cost: number;
  identifies: boolean;
}

async function factsOf(session: Session, entries: readonly SchemaEntry[]): Promise<EntryFacts[]> {
  const rows = await session.query<{ facts: EntryFacts }>(
    `SELECT json_build_object(
       'identity', CASE WHEN e.oid <> 0 AND e.class <> 0 THEN
         (SELECT type || ' ' || identity FROM pg_identify_object(e.class::oid, e.oid::oid, 0)) END,
       'again', EXISTS (SELECT FROM pg_rewrite r WHERE e.class = 'pg_rewrite'::regclass::int8 AND r.oid = e.oid AND rulename = '_RETURN')
         OR EXISTS (SELECT FROM pg_trigger t WHERE e.class = 'pg_trigger'::regclass::int8 AND t.oid = e.oid AND tgparentid <> 0),
       'ours', EXISTS (SELECT FROM pg_publication p WHERE pubname ~ '^pgkit_' AND p.oid = CASE e.class
           WHEN 'pg_publication'::regclass::int8 THEN e.oid
           WHEN 'pg_publication_rel'::regclass::int8 THEN (SELECT prpubid FROM pg_publication_rel WHERE oid = e.oid)
           WHEN 'pg_publication_namespace'::regclass::int8 THEN (SELECT pnpubid FROM pg_publication_namespace WHERE oid = e.oid) END),
       'table', i.indrelid::int8, 'ofView', coalesce((SELECT relkind = 'm' FROM pg_class WHERE oid = i.indrelid), false),
       'cost', coalesce(pg_relation_size(i.indexrelid) + pg_table_size(i.indrelid) / 4, 0),
       'identifies', coalesce(i.indisreplident OR c.contype IN ('p', 'u'), false)) AS facts
     FROM unnest($1::int8[], $2::int8[]) WITH ORDINALITY AS e (class, oid, n)
     LEFT JOIN pg_constraint c ON e.class = 'pg_constraint'::regclass::int8 AND c.oid = e.oid AND c.contype IN ('p', 'u', 'x')
     LEFT JOIN pg_index i ON i.indexrelid = CASE e.class WHEN 'pg_class'::regclass::int8 THEN e.oid::oid ELSE c.conindid END
     ORDER BY n`,
    [entries.map(({ classId }) => classId), entries.map(({ oid }) => oid)],
  );
  return rows.map(({ facts }) => facts);
}

/** Everything on the target that an entry after the data can make, as `pg_identify_object` names it. */
async function identitiesOf(session: Session): Promise<string[]> {
  const catalogs = [
    "pg_class WHERE relkind IN ('i', 'I', 'm')",
    ...["pg_constraint", "pg_trigger WHERE NOT tgisinternal", "pg_rewrite", "pg_policy", "pg_statistic_ext"],
    ...["pg_event_trigger", "pg_publication", "pg_publication_rel", "pg_publication_namespace", "pg_proc"],
  ];
  const objects = catalogs.map((from) => {
    const [catalog, condition = "true"] = from.split(" WHERE ");
    return `SELECT tableoid, oid FROM ${catalog} WHERE oid >= 16384 AND ${condition}`;
  });
  const rows = await session.query<{ identity: string }>(
    `SELECT type || ' ' || identity AS identity FROM (${objects.join(" UNION ALL ")}) AS o,
       pg_identify_object(o.tableoid, o.oid, 0)`,
  );
  return rows.map(({ identity }) => identity);
}
