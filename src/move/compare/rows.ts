import { identifier } from "../../postgres/quote.ts";
import type { Session } from "../../postgres/session.ts";
import { rowHash } from "../../restore/content-sql.ts";
import { type KeyColumn, type ProvableTable, qualified } from "./table-list.ts";

/** A table whose rows can be found on the other server. */
export interface KeyedTable extends ProvableTable {
  readonly key: readonly KeyColumn[];
}

/** Rows of one place, as what is to be looked up elsewhere. The keys are arrays as PostgreSQL spells them, one a column. */
export interface PickedRows {
  readonly rows: number;
  readonly hash: string;
  readonly keys: readonly string[];
}

/** The rows on pages from `first` up to, but without, `end`. */
export async function pickRows(
  session: Session,
  table: KeyedTable,
  { first, end }: { first: number; end: number },
): Promise<PickedRows> {
  const keys = table.key.map(({ name }, index) => `${identifier(name)}::text AS k${index}`);
  const [row] = await session.query<{ rows: number; hash: string } & Record<string, string | null>>(
    `SELECT count(*)::float8 AS rows, coalesce(sum(h), 0)::text AS hash,
       ${table.key.map((_, index) => `array_agg(k${index})::text AS k${index}`).join(", ")}
     FROM (SELECT ${rowHash(table)} AS h, ${keys.join(", ")} FROM ONLY ${qualified(table)}
       WHERE ctid >= '(${first},0)'::tid AND ctid < '(${end},0)'::tid AND (${table.where ?? "true"})) AS picked`,
  );
  if (row === undefined) throw new Error("an aggregate gave no row");
  return { rows: row.rows, hash: row.hash, keys: table.key.map((_, index) => String(row[`k${index}`] ?? "{}")) };
}

/** What this server has of these keys. */
export async function lookUp(
  session: Session,
  table: KeyedTable,
  keys: readonly string[],
): Promise<{ rows: number; hash: string }> {
  const [row] = await session.query<{ rows: number; hash: string }>(
    `SELECT count(*)::float8 AS rows, coalesce(sum(h), 0)::text AS hash FROM ${found(table, `${rowHash(table)} AS h`)}`,
    keys,
  );
  if (row === undefined) throw new Error("an aggregate gave no row");
  return row;
}

export interface HashedRow {
  /** The key's columns as text, as JSON. */
  readonly key: string;
  readonly hash: string;
}

/** As `lookUp`, one by one; with `lock` nobody can change or delete the rows until the transaction ends. */
export async function rowsOf(
  session: Session,
  table: KeyedTable,
  keys: readonly string[],
  { lock = false }: { lock?: boolean } = {},
): Promise<HashedRow[]> {
  const columns = table.key.map(({ name }) => `${identifier(name)}::text`).join(", ");
  const values = `${rowHash(table)}::text AS hash, jsonb_build_array(${columns})::text AS key`;
  return session.query<HashedRow>(`SELECT key, hash FROM ${found(table, values, lock ? " FOR SHARE" : "")}`, keys);
}

/** The arrays of these rows' keys, as `lookUp` takes them. */
export function keysOf(table: KeyedTable, keys: readonly string[]): string[] {
  const rows = keys.map((key) => JSON.parse(key) as string[]);
  return table.key.map((_, column) => arrayText(rows.map((row) => String(row[column]))));
}

/** A scan by the key for each, whatever the planner thinks of the number of keys: OFFSET keeps the parts apart. */
function found(table: KeyedTable, values: string, lock = ""): string {
  const names = table.key.map((_, index) => `k${index}`).join(", ");
  const arrays = table.key.map((_, index) => `$${index + 1}::text[]`).join(", ");
  const same = table.key.map(({ name, type }, index) => `t.${identifier(name)} = wanted.k${index}::${type}`);
  return `unnest(${arrays}) AS wanted (${names}) CROSS JOIN LATERAL (SELECT ${values} FROM ONLY ${qualified(table)} AS t
    WHERE ${same.join(" AND ")}${lock === "" ? " OFFSET 0" : lock}) AS found`;
}

function arrayText(values: readonly string[]): string {
  return `{${values.map((value) => `"${value.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`).join(",")}}`;
}
