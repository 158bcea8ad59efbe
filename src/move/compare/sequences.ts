import { literal } from "../../postgres/quote.ts";
import type { Session } from "../../postgres/session.ts";
import type { Difference } from "../proof-report.ts";
import type { Both } from "./both.ts";
import { ofExtension, userSchema } from "./kinds-sql.ts";
import { nameOf, qualified } from "./table-list.ts";

interface SequenceValue {
  name: string;
  last: string;
  isCalled: boolean;
  increment: string;
  cycles: boolean;
}

/** Sequences that one statement reads. */
const together = 200;

/**
 * The target's sequences must never give a number that the source's have given: they may be further on, by the headroom
 * of a move, and not behind. Gives how many there are, and those that are behind.
 */
export async function compareSequences({
  source,
  target,
}: Both): Promise<{ count: number; differences: Difference[] }> {
  const [wanted, found] = await Promise.all([sequenceValues(source), sequenceValues(target)]);
  const there = new Map(found.map((each) => [each.name, each]));
  const differences = wanted.flatMap((here): Difference[] => {
    const other = there.get(here.name);
    // That one is missing is told with the objects.
    if (other === undefined || here.cycles || isAhead(here, other)) return [];
    const texts = { source: valueText(here), target: valueText(other) };
    return [{ kind: "sequence", object: here.name, of: "value", ...texts }];
  });
  return { count: wanted.length, differences };
}

function isAhead(here: SequenceValue, there: SequenceValue): boolean {
  const ahead = nextOf(there) - nextOf(here);
  return BigInt(here.increment) > 0n ? ahead >= 0n : ahead <= 0n;
}

/** The number that comes next, were there no end. */
function nextOf({ last, isCalled, increment }: SequenceValue): bigint {
  return BigInt(last) + (isCalled ? BigInt(increment) : 0n);
}

function valueText({ last, isCalled }: SequenceValue): string {
  return isCalled ? last : `${last}, not given yet`;
}

async function sequenceValues(session: Session): Promise<SequenceValue[]> {
  const all = await session.query<{ schema: string; name: string; increment: string; cycles: boolean }>(
    `SELECT n.nspname AS schema, c.relname AS name, s.seqincrement::text AS increment, s.seqcycle AS cycles
     FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE ${userSchema} AND c.relpersistence <> 't' AND NOT ${ofExtension("pg_class", "c.oid")} ORDER BY 1, 2`,
  );
  const values: SequenceValue[] = [];
  for (let first = 0; first < all.length; first += together) {
    const selects = all.slice(first, first + together).map(({ schema, name, increment, cycles }) => {
      const spelled = qualified({ schema, name });
      return `SELECT ${literal(nameOf({ schema, name }))} AS name, last_value::text AS last, is_called AS "isCalled",
        ${literal(increment)} AS increment, ${cycles} AS cycles FROM ${spelled}`;
    });
    values.push(...(await session.query<SequenceValue>(selects.join(" UNION ALL "))));
  }
  return values;
}
