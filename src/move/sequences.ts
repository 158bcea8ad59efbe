import { identifier } from "../postgres/quote.ts";
import type { Session } from "../postgres/session.ts";

/** A sequence as it stands; whole numbers as text, as they may be beyond what JSON's numbers hold. */
export interface SequenceState {
  schema: string;
  name: string;
  last: string;
  /** False: `last` is the next value, and none was given out. */
  called: boolean;
  increment: string;
  min: string;
  max: string;
  cache: string;
  cycle: boolean;
}

/** All of the database's sequences but those that are an extension's own business, by name. */
export async function sequenceStates(session: Session): Promise<SequenceState[]> {
  const sequences = await session.query<Omit<SequenceState, "last" | "called">>(
    `SELECT n.nspname AS schema, c.relname AS name, s.seqincrement::text AS increment, s.seqmin::text AS min,
       s.seqmax::text AS max, s.seqcache::text AS cache, s.seqcycle AS cycle
     FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
       AND (NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
         OR EXISTS (SELECT FROM pg_extension WHERE c.oid = ANY (extconfig)))
     ORDER BY 1, 2`,
  );
  const values: { last: string; called: boolean }[] = [];
  for (let first = 0; first < sequences.length; first += sequencesAStatement) {
    const batch = sequences.slice(first, first + sequencesAStatement);
    const selects = batch.map(
      (each, index) => `SELECT ${index} AS index, last_value::text AS last, is_called AS called FROM ${nameOf(each)}`,
    );
    values.push(
      ...(await session.query<{ last: string; called: boolean }>(`${selects.join(" UNION ALL ")} ORDER BY 1`)),
    );
  }
  return sequences.map((sequence, index) => {
    const { last = "0", called = false } = values[index] ?? {};
    return { ...sequence, last, called };
  });
}

const sequencesAStatement = 200;

/** So many values further, in the sequence's own steps, the other side goes on. */
const headroom = 32n;

/**
 * What the sequence gets on the other side: some values further, so that none is given out twice, also where a session had
 * some in its cache. It never passes its end: near it, and where it cycles or was never used, it is exactly the same.
 */
export function carriedValue(from: SequenceState): { last: string; called: boolean } {
  const { last, called, cycle } = from;
  if (!called || cycle) return { last, called };
  const [increment, cache] = [BigInt(from.increment), BigInt(from.cache)];
  const further = BigInt(last) + increment * (cache > headroom ? cache : headroom);
  if (further > BigInt(from.max) || further < BigInt(from.min)) return { last, called };
  return { last: further.toString(), called };
}

/** Whether a sequence that stands at `there` would give out what one at `wanted` has given out already. */
export function isBehind(
  there: Pick<SequenceState, "last" | "called">,
  wanted: Pick<SequenceState, "last" | "called" | "increment">,
): boolean {
  const direction = BigInt(wanted.increment) > 0n ? 1n : -1n;
  const ahead = (BigInt(there.last) - BigInt(wanted.last)) * direction;
  return ahead < 0n || (ahead === 0n && wanted.called && !there.called);
}

/**
 * Sets the sequences of this side to what `carriedValue` says of the other side's. None goes back, but where nobody uses
 * this side yet (`fresh`): what runs twice gives no value away. One that is missing here is left out. Gives how many it set.
 */
export async function carrySequences(
  session: Session,
  from: readonly SequenceState[],
  { fresh }: { fresh: boolean },
): Promise<number> {
  const here = new Map((await sequenceStates(session)).map((state) => [nameOf(state), state]));
  const wanted = from.flatMap((state) => {
    const [there, value] = [here.get(nameOf(state)), carriedValue(state)];
    if (there === undefined) return [];
    const same = there.last === value.last && there.called === value.called;
    const behind = isBehind(there, { ...value, increment: state.increment });
    return same || !(fresh || behind) ? [] : [{ ...state, ...value }];
  });
  await setSequences(session, wanted);
  return wanted.length;
}

export async function setSequences(
  session: Session,
  states: readonly Pick<SequenceState, "schema" | "name" | "last" | "called">[],
): Promise<void> {
  if (states.length === 0) return;
  // By name: one that was dropped meanwhile is left out by to_regclass, and setval then by the condition.
  await session.query(
    `SELECT setval(to_regclass(name), last, called)
     FROM unnest($1::text[], $2::int8[], $3::bool[]) AS wanted (name, last, called) WHERE to_regclass(name) IS NOT NULL`,
    [states.map(nameOf), states.map(({ last }) => last), states.map(({ called }) => called)],
  );
}

function nameOf({ schema, name }: Pick<SequenceState, "schema" | "name">): string {
  return `${identifier(schema)}.${identifier(name)}`;
}
