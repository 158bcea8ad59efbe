import type { Session } from "../postgres/session.ts";
import type { TableFacts } from "../repo/manifest.ts";

/**
 * Takes the partitions among `tables` whose own tables are not among them out of these, in the loaded database. Gives the
 * statements that put them into the live ones again. A dump of a partition that is attached would attach it before its
 * indexes and its primary key are there: the live table would make its own, and those of the dump would fail.
 */
export async function detachPartitions(session: Session, tables: readonly TableFacts[]): Promise<string[]> {
  const chosen = new Set(tables.map((table) => table.oid));
  const partitions = tables.filter(({ partitionOf }) => partitionOf !== undefined && !chosen.has(partitionOf));
  const rows = await session.query<{ detach: string; attach: string }>(
    `SELECT format('ALTER TABLE ONLY %s DETACH PARTITION %s', parent, part) AS detach,
       format('ALTER TABLE ONLY %s ATTACH PARTITION %s %s', parent, part, bound) AS attach
     FROM (SELECT format('%I.%I', pn.nspname, p.relname) AS parent, format('%I.%I', n.nspname, c.relname) AS part,
         pg_get_expr(c.relpartbound, c.oid) AS bound
       FROM unnest($1::text[], $2::text[]) AS names (s, t)
       JOIN pg_namespace n ON n.nspname = s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t
       JOIN pg_inherits ON inhrelid = c.oid AND c.relispartition
       JOIN pg_class p ON p.oid = inhparent JOIN pg_namespace pn ON pn.oid = p.relnamespace) AS partitions`,
    [partitions.map(({ schema }) => schema), partitions.map(({ name }) => name)],
  );
  for (const { detach } of rows) await session.query(detach);
  return rows.map(({ attach }) => attach);
}
