import * as v from "valibot";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { type Clock, rfc3339 } from "../lib/time.ts";
import { putAbsent } from "../repo/absent.ts";
import { journalRecordKey } from "../repo/layout.ts";
import { type Repository, type RepositoryReader, readObject } from "../repo/repository.ts";
import type { SignalOption } from "../store/store.ts";

/** Who goes on with it from here on. */
export interface Runner {
  readonly who: string;
  readonly host: string;
  readonly pid: number;
}

/** What a journal is the memory of. */
export interface JournalKind<Facts, State extends string> {
  /** `move`. */
  readonly what: string;
  /** The first is the one that it begins in. */
  readonly states: readonly [State, ...State[]];
  folderOf(facts: Facts): string;
  /** What the slower of two runners is told. */
  taken(facts: Facts): { readonly message: string; readonly hint: string };
}

/** What the engine writes of its steps. */
export type StepRecord =
  | { readonly type: "plan"; readonly step: string; readonly plan?: unknown }
  | { readonly type: "result"; readonly step: string; readonly result?: unknown }
  | { readonly type: "undone"; readonly step: string }
  | { readonly type: "blocked"; readonly writeBlockedMs: number };

export type NewRecord<Facts, State> =
  | StepRecord
  | { readonly type: "begun"; readonly facts: Facts }
  | ({ readonly type: "runner"; readonly does: string } & Runner)
  | { readonly type: "state"; readonly state: State; readonly message?: string | undefined };

export type JournalRecord<Facts, State> = { readonly format: 1; readonly at: string } & NewRecord<Facts, State>;

/** What the journal knows of a step that has begun. */
export interface StepEntry {
  readonly plan: unknown;
  readonly result: unknown;
  readonly isDone: boolean;
  readonly at: string;
}

/**
 * The durable memory of one saga: numbered objects, each written once. It never says what is true of the world, only what
 * was planned and done. Of two runners the slower finds its next number taken, and has lost.
 */
export interface Journal<Facts, State extends string> {
  readonly folder: string;
  readonly facts: Facts;
  readonly state: State;
  /** Why it stopped. */
  readonly message: string | undefined;
  /** When it began and when it last changed, RFC 3339. */
  readonly begunAt: string;
  readonly changedAt: string;
  /** How long the application could not write. */
  readonly writeBlockedMs: number | undefined;
  /** By the step's name, in the order in which they began. */
  readonly steps: ReadonlyMap<string, StepEntry>;
  /** Fails with `locked` when another runner has written meanwhile. */
  append(record: NewRecord<Facts, State>): Promise<void>;
  /** Known to this process at once; on the disk with what is appended next, in the same object. */
  later(record: NewRecord<Facts, State>): void;
}

/** A journal to look at. */
export type JournalView<Facts, State extends string> = Omit<Journal<Facts, State>, "append" | "later">;

/** A journal as its records tell, to look at. */
export interface FoundJournal<Facts, State extends string> {
  readonly folder: string;
  readonly records: readonly JournalRecord<Facts, State>[];
  /** How many objects they are in. */
  readonly written: number;
  readonly journal: JournalView<Facts, State>;
}

export interface JournalOptions extends SignalOption {
  clock: Clock;
}

/** Begins a new journal. */
export async function beginJournal<Facts, State extends string>(
  kind: JournalKind<Facts, State>,
  repository: Repository,
  facts: Facts,
  runner: Runner,
  options: JournalOptions,
): Promise<Journal<Facts, State>> {
  const first = { format: 1, at: rfc3339(options.clock.now()), type: "begun", facts } as const;
  const journal = journalOf(kind, repository, { records: [first], waiting: [first], written: 0 }, options);
  await journal.append({ type: "runner", does: kind.what, ...runner });
  return journal;
}

/** Takes up a journal to go on with it: from then on every other runner of it loses. */
export async function takeUpJournal<Facts, State extends string>(
  kind: JournalKind<Facts, State>,
  repository: Repository,
  found: FoundJournal<Facts, State>,
  does: string,
  runner: Runner,
  options: JournalOptions,
): Promise<Journal<Facts, State>> {
  const { records, written } = found;
  const journal = journalOf(kind, repository, { records: [...records], waiting: [], written }, options);
  await journal.append({ type: "runner", does, ...runner });
  return journal;
}

/** The journal whose records have these keys, in their order. */
export async function readJournal<Facts, State extends string>(
  kind: JournalKind<Facts, State>,
  repository: RepositoryReader,
  keys: readonly string[],
  options: SignalOption,
): Promise<FoundJournal<Facts, State>> {
  const records: JournalRecord<Facts, State>[] = [];
  for (const key of keys) records.push(...(await readRecords(kind, repository, key, options)));
  const journal = fold(kind, records);
  return { folder: journal.folder, records, written: keys.length, journal };
}

async function readRecords<Facts, State extends string>(
  kind: JournalKind<Facts, State>,
  repository: RepositoryReader,
  key: string,
  options: SignalOption,
): Promise<JournalRecord<Facts, State>[]> {
  const text = await readObject(repository.store, key, options);
  const schema = recordSchema(kind.states);
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), v.union([schema, v.array(schema)])), text);
  // The schema has these very states; what the facts are is the kind's own.
  if (parsed.success) return [parsed.output].flat() as JournalRecord<Facts, State>[];
  throw new PgkitError("manifest-corrupt", `${key} in ${repository.where} is no record of a ${kind.what}`, {
    hint: "it was cut, changed, or written by a newer pgkit",
  });
}

function recordSchema(states: readonly string[]) {
  const common = { format: v.literal(1), at: v.string() };
  const runner = { does: v.string(), who: v.string(), host: v.string(), pid: v.number() };
  const facts = v.custom<object>((value) => typeof value === "object" && value !== null);
  return v.variant("type", [
    v.object({ ...common, type: v.literal("begun"), facts }),
    v.object({ ...common, type: v.literal("runner"), ...runner }),
    v.object({ ...common, type: v.literal("plan"), step: v.string(), plan: v.optional(v.unknown()) }),
    v.object({ ...common, type: v.literal("result"), step: v.string(), result: v.optional(v.unknown()) }),
    v.object({ ...common, type: v.literal("undone"), step: v.string() }),
    v.object({ ...common, type: v.literal("state"), state: v.picklist(states), message: v.optional(v.string()) }),
    v.object({ ...common, type: v.literal("blocked"), writeBlockedMs: v.number() }),
  ]);
}

interface Written<Facts, State extends string> {
  records: JournalRecord<Facts, State>[];
  /** The last of them, which are not in an object yet. */
  waiting: JournalRecord<Facts, State>[];
  /** Objects so far. */
  written: number;
}

function journalOf<Facts, State extends string>(
  kind: JournalKind<Facts, State>,
  { store, where }: Repository,
  written: Written<Facts, State>,
  { clock, signal }: JournalOptions,
): Journal<Facts, State> {
  const view = () => fold(kind, written.records);
  const { folder, facts } = view();
  const later = (record: NewRecord<Facts, State>) => {
    const whole = { format: 1, at: rfc3339(clock.now()), ...record } as const;
    written.waiting.push(whole);
    written.records.push(whole);
  };
  return {
    folder,
    facts,
    get state() {
      return view().state;
    },
    get message() {
      return view().message;
    },
    get begunAt() {
      return view().begunAt;
    },
    get changedAt() {
      return view().changedAt;
    },
    get writeBlockedMs() {
      return view().writeBlockedMs;
    },
    get steps() {
      return view().steps;
    },
    later,
    append: async (record) => {
      later(record);
      const [first, ...others] = written.waiting;
      const bytes = Buffer.from(`${JSON.stringify(others.length === 0 ? first : written.waiting, undefined, 2)}\n`);
      try {
        const key = journalRecordKey(folder, written.written + 1);
        await putAbsent(store, key, bytes, signal === undefined ? {} : { signal });
      } catch (error) {
        // What is not written is not known either.
        written.waiting.pop();
        written.records.pop();
        if (!isPgkitError(error, "condition-failed")) throw error;
        const { message, hint } = kind.taken(facts);
        throw new PgkitError("locked", `${message} (${where})`, { hint, cause: error });
      }
      written.waiting = [];
      written.written++;
    },
  };
}

/** What all records together say. */
function fold<Facts, State extends string>(
  kind: JournalKind<Facts, State>,
  records: readonly JournalRecord<Facts, State>[],
): JournalView<Facts, State> {
  const [first] = records;
  if (first?.type !== "begun") {
    throw new PgkitError("manifest-corrupt", `the journal of a ${kind.what} does not begin with its first record`, {
      hint: "somebody has removed records of it",
    });
  }
  const steps = new Map<string, StepEntry>();
  let state = kind.states[0];
  let [message, writeBlockedMs]: [string | undefined, number | undefined] = [undefined, undefined];
  for (const record of records) {
    if (record.type === "plan") {
      steps.set(record.step, { plan: record.plan, result: undefined, isDone: false, at: record.at });
    } else if (record.type === "result") {
      const plan = steps.get(record.step)?.plan;
      steps.set(record.step, { plan, result: record.result, isDone: true, at: record.at });
    } else if (record.type === "undone") {
      steps.delete(record.step);
    } else if (record.type === "state") {
      ({ state, message } = { message: undefined, ...record });
    } else if (record.type === "blocked") {
      ({ writeBlockedMs } = record);
    }
  }
  const changedAt = records.at(-1)?.at ?? first.at;
  const folder = kind.folderOf(first.facts);
  return { folder, facts: first.facts, state, message, begunAt: first.at, changedAt, writeBlockedMs, steps };
}
