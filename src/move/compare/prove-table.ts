import { hashOfTable } from "../../restore/content-sql.ts";
import type { Difference } from "../proof-report.ts";
import type { Both } from "./both.ts";
import { differing } from "./content.ts";
import { type KeyedTable, lookUp, type PickedRows, pickRows, rowsOf } from "./rows.ts";
import { type CatchUp, differingKeys, settleRows } from "./settle.ts";
import { nameOf, type ProvableTable, qualified } from "./table-list.ts";

export interface TableResult {
  readonly rows: number;
  readonly settledRows: number;
  readonly differences: readonly Difference[];
}

/** Some tens of thousands of rows: little enough that few change between a look here and one there. */
const pagesAtOnce = 256;

/**
 * Compares all rows of a table while the application writes it on the target and the source follows: every row of either
 * side's snapshot is looked up on the other by its key, and what differs is settled, in the sessions `apart`: those of the
 * snapshots would not see what has changed.
 */
export async function proveTable(both: Both, apart: Both, table: KeyedTable, catchUp: CatchUp): Promise<TableResult> {
  const back: Both = { source: both.target, target: both.source };
  const settle = (keys: readonly string[]) => settleRows(apart, table, keys, catchUp);
  await catchUp();
  const here = await oneWay(both, table, settle);
  const there = await oneWay(back, table, settle);
  return {
    rows: there.rows,
    settledRows: here.settledRows + there.settledRows,
    differences: [...here.differences, ...there.differences].slice(0, 1),
  };
}

/** Looks up on `target` what `source` has, in a snapshot of `source`, so that each row is met exactly once. */
async function oneWay(
  { source, target }: Both,
  table: KeyedTable,
  settle: (keys: readonly string[]) => Promise<Difference[]>,
): Promise<TableResult> {
  const result = { rows: 0, settledRows: 0, differences: [] as Difference[] };
  await source.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  try {
    const pages = await pagesOf(source, table);
    for (let first = 0; first < pages && result.differences.length === 0; first += pagesAtOnce) {
      const picked = await pickRows(source, table, { first, end: first + pagesAtOnce });
      result.rows += picked.rows;
      const keys = await differingIn({ source, target }, table, picked);
      if (keys.length === 0) continue;
      result.settledRows += keys.length;
      result.differences.push(...(await settle(keys)));
    }
    return result;
  } finally {
    await source.query("ROLLBACK");
  }
}

async function differingIn({ source, target }: Both, table: KeyedTable, picked: PickedRows): Promise<string[]> {
  if (picked.rows === 0) return [];
  const found = await lookUp(target, table, picked.keys);
  if (found.rows === picked.rows && found.hash === picked.hash) return [];
  const [here, there] = await Promise.all([rowsOf(source, table, picked.keys), rowsOf(target, table, picked.keys)]);
  return differingKeys(here, there);
}

/** In the snapshot; the table may have grown since it was listed. */
async function pagesOf(session: Both["source"], table: ProvableTable): Promise<number> {
  const [row] = await session.query<{ pages: number }>(
    "SELECT (pg_relation_size($1::regclass) / current_setting('block_size')::int)::float8 AS pages",
    [qualified(table)],
  );
  return row?.pages ?? 0;
}

/** How often a table without a key is looked at again, before it is held still for a moment. */
const looks = 3;

/** A table whose rows cannot be told apart: as a whole, at a moment at which both sides are alike. */
export async function proveWholeTable(both: Both, table: ProvableTable, catchUp: CatchUp): Promise<TableResult> {
  for (let look = 0; look < looks; look++) {
    const { here, there } = await lookAt(both, table, catchUp);
    if (differing(nameOf(table), here, there).length === 0)
      return { rows: there.rows, settledRows: 0, differences: [] };
  }
  await both.target.query("BEGIN");
  try {
    await both.target.query("SELECT set_config('lock_timeout', '5s', true)");
    await both.target.query(`LOCK TABLE ONLY ${qualified(table)} IN SHARE MODE`);
    const { here, there } = await lookAt(both, table, catchUp);
    return { rows: there.rows, settledRows: there.rows, differences: differing(nameOf(table), here, there) };
  } finally {
    await both.target.query("ROLLBACK");
  }
}

async function lookAt({ source, target }: Both, table: ProvableTable, catchUp: CatchUp) {
  const there = await hashOfTable(target, table);
  await catchUp();
  return { there, here: await hashOfTable(source, table) };
}
