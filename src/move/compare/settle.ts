import type { Difference } from "../proof-report.ts";
import type { Both } from "./both.ts";
import { type HashedRow, type KeyedTable, keysOf, rowsOf } from "./rows.ts";
import { nameOf } from "./table-list.ts";

/** Rows that are compared under one lock: few, so that nobody waits long. */
const together = 500;

/** How often rows are looked at again that came or went meanwhile; those that are there on the target are locked. */
const attempts = 3;

/** Waits until the source has all that the target has committed until now. */
export type CatchUp = () => Promise<void>;

/**
 * Compares rows that differed while the application writes. They are locked on the target against change (FOR SHARE), the
 * feed back to the source is waited for, and then both sides must have the same.
 */
export async function settleRows(
  both: Both,
  table: KeyedTable,
  keys: readonly string[],
  catchUp: CatchUp,
): Promise<Difference[]> {
  const differences: Difference[] = [];
  for (let first = 0; first < keys.length; first += together) {
    let left: readonly string[] = keys.slice(first, first + together);
    for (let attempt = 0; attempt < attempts && left.length > 0; attempt++) {
      left = await compareLocked(both, table, left, catchUp);
    }
    differences.push(...left.map(() => differenceOf(table)));
  }
  return collapsed(differences);
}

/** Of these keys, those whose rows are not the same. */
async function compareLocked(
  { source, target }: Both,
  table: KeyedTable,
  keys: readonly string[],
  catchUp: CatchUp,
): Promise<string[]> {
  const arrays = keysOf(table, keys);
  await target.query("BEGIN");
  try {
    await target.query("SELECT set_config('lock_timeout', '5s', true)");
    const there = await rowsOf(target, table, arrays, { lock: true });
    await catchUp();
    const here = await rowsOf(source, table, arrays);
    return differingKeys(here, there);
  } finally {
    await target.query("ROLLBACK");
  }
}

/** The keys of rows that are on one side only, or not alike. */
export function differingKeys(here: readonly HashedRow[], there: readonly HashedRow[]): string[] {
  const wanted = new Map(here.map(({ key, hash }) => [key, hash]));
  const found = new Map(there.map(({ key, hash }) => [key, hash]));
  return [...new Set([...wanted.keys(), ...found.keys()])].filter((key) => wanted.get(key) !== found.get(key));
}

function differenceOf(table: KeyedTable): Difference {
  return { kind: "table", object: nameOf(table), of: "rows", source: "1", target: "other content" };
}

function collapsed(differences: readonly Difference[]): Difference[] {
  const [first] = differences;
  if (first === undefined) return [];
  const count = `${differences.length} rows`;
  return [{ ...first, of: "content", source: count, target: `${count} that are missing, more, or not the same` }];
}
