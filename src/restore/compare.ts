import { countRows, listTables } from "../postgres/database-facts.ts";
import type { Session } from "../postgres/session.ts";
import type { LogicalFacts, TableFacts } from "../repo/manifest.ts";

/**
 * What differs between the session's database and what a manifest recorded, one sentence each naming the table and both
 * values; empty when nothing does. With `rows` false, or for tables that were not counted, only their presence is compared.
 */
export async function compareWithManifest(
  session: Session,
  facts: Pick<LogicalFacts, "tables" | "extensions" | "largeObjects">,
  { rows, largeObjects }: { rows: boolean; largeObjects: boolean },
): Promise<string[]> {
  const present = await listTables(session);
  const keys = new Set(present.map(keyOf));
  const recorded = new Set(facts.tables.map(keyOf));
  // Another version of an extension may have other tables; that the extension is there is compared below.
  const missing = facts.tables.filter((table) => !keys.has(keyOf(table)) && !table.ofExtension);
  const extra = present.filter((table) => !recorded.has(keyOf(table)) && !table.ofExtension);
  return [
    ...missing.map((table) => `table ${nameOf(table)} is missing`),
    ...extra.map((table) => `table ${nameOf(table)} is there but was not backed up`),
    ...(await missingExtensions(session, facts.extensions)),
    ...(rows
      ? await rowDifferences(
          session,
          facts.tables.filter((table) => keys.has(keyOf(table))),
        )
      : []),
    ...(largeObjects ? await objectDifferences(session, facts.largeObjects) : []),
  ];
}

async function rowDifferences(session: Session, tables: readonly TableFacts[]): Promise<string[]> {
  const counted = tables.flatMap((table) => (table.rows === undefined ? [] : [{ ...table, rows: table.rows }]));
  const counts = await countRows(session, counted);
  return counted.flatMap((table, index) => {
    const found = counts[index];
    return found === table.rows ? [] : [`table ${nameOf(table)} has ${found} rows, the backup has ${table.rows}`];
  });
}

async function objectDifferences(session: Session, wanted: number): Promise<string[]> {
  const [row] = await session.query<{ found: number }>("SELECT count(*)::float8 AS found FROM pg_largeobject_metadata");
  return row?.found === wanted ? [] : [`there are ${row?.found} large objects, the backup has ${wanted}`];
}

async function missingExtensions(session: Session, wanted: LogicalFacts["extensions"]): Promise<string[]> {
  const rows = await session.query<{ name: string }>("SELECT extname AS name FROM pg_extension");
  const present = new Set(rows.map((row) => row.name));
  return wanted.filter(({ name }) => !present.has(name)).map(({ name }) => `extension ${name} is missing`);
}

function keyOf({ schema, name }: { schema: string; name: string }): string {
  return JSON.stringify([schema, name]);
}

function nameOf({ schema, name }: { schema: string; name: string }): string {
  return `${schema}.${name}`;
}
