import * as v from "valibot";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { type Clock, rfc3339 } from "../lib/time.ts";
import { putAbsent } from "../repo/absent.ts";
import { moveFolder, movePrefix, moveRecordKey, moveRecordOf, movesOf } from "../repo/layout.ts";
import { type Repository, type RepositoryReader, readObject } from "../repo/repository.ts";
import type { SignalOption } from "../store/store.ts";
import type { MoveFacts } from "./step.ts";

/** Who goes on with a move from here on. */
export interface Runner {
  readonly who: string;
  readonly host: string;
  readonly pid: number;
}

const Common = { format: v.literal(1), at: v.string() };

/** What a move is in, as far as it got: `stopped` can be resumed or rolled back. */
const states = ["moving", "stopped", "switched", "rolling-back", "rolled-back", "finishing", "finished"] as const;
export type MoveState = (typeof states)[number];

const MoveRecord = v.variant("type", [
  v.object({ ...Common, type: v.literal("begun"), facts: v.custom<MoveFacts>((value) => typeof value === "object") }),
  v.object({
    ...Common,
    type: v.literal("runner"),
    does: v.string(),
    who: v.string(),
    host: v.string(),
    pid: v.number(),
  }),
  v.object({ ...Common, type: v.literal("plan"), step: v.string(), plan: v.optional(v.unknown()) }),
  v.object({ ...Common, type: v.literal("result"), step: v.string(), result: v.optional(v.unknown()) }),
  v.object({ ...Common, type: v.literal("undone"), step: v.string() }),
  v.object({ ...Common, type: v.literal("state"), state: v.picklist(states), message: v.optional(v.string()) }),
  v.object({ ...Common, type: v.literal("blocked"), writeBlockedMs: v.number() }),
]);

export type MoveRecord = v.InferOutput<typeof MoveRecord>;
type NewRecord = MoveRecord extends infer Each
  ? Each extends MoveRecord
    ? Omit<Each, "format" | "at">
    : never
  : never;

/** What the journal knows of a step that has begun. */
export interface StepEntry {
  readonly plan: unknown;
  readonly result: unknown;
  readonly isDone: boolean;
  readonly at: string;
}

/**
 * The durable memory of one move: numbered objects, each written once. It never says what is true of the servers, only what
 * was planned and done. Of two runners the slower finds its next number taken, and has lost.
 */
export interface Journal {
  readonly folder: string;
  readonly facts: MoveFacts;
  readonly state: MoveState;
  /** Why it stopped. */
  readonly message: string | undefined;
  /** When the move began and when it last changed, RFC 3339. */
  readonly begunAt: string;
  readonly changedAt: string;
  /** How long the application could not write, when it was switched. */
  readonly writeBlockedMs: number | undefined;
  /** By the step's name, in the order in which they began. */
  readonly steps: ReadonlyMap<string, StepEntry>;
  /** Fails with `locked` when another runner has written meanwhile. */
  append(record: NewRecord): Promise<void>;
  /** Known to this process at once; on the disk with what is appended next, in the same object. */
  later(record: NewRecord): void;
}

/** A journal to look at. */
export type JournalView = Omit<Journal, "append" | "later">;

interface JournalOptions extends SignalOption {
  clock: Clock;
}

/** Begins the journal of a new move. */
export async function beginJournal(
  repository: Repository,
  facts: MoveFacts,
  runner: Runner,
  options: JournalOptions,
): Promise<Journal> {
  const folder = moveFolder(facts.source.instance, facts.database, facts.id);
  const first: MoveRecord = { format: 1, at: rfc3339(options.clock.now()), type: "begun", facts };
  const journal = journalOf(repository, folder, { records: [first], waiting: [first], written: 0 }, options);
  await journal.append({ type: "runner", does: "move", ...runner });
  return journal;
}

/** Takes up the journal of a move to go on with it: from then on every other runner of it loses. */
export async function takeUpJournal(
  repository: Repository,
  found: FoundMove,
  does: string,
  runner: Runner,
  options: JournalOptions,
): Promise<Journal> {
  const { folder, records, written } = found;
  const journal = journalOf(repository, folder, { records: [...records], waiting: [], written }, options);
  await journal.append({ type: "runner", does, ...runner });
  return journal;
}

/** A move as its records tell, to look at. */
export interface FoundMove {
  readonly folder: string;
  readonly records: readonly MoveRecord[];
  /** How many objects they are in. */
  readonly written: number;
  readonly journal: JournalView;
}

/** The newest move of a database, of one instance or of any; `undefined` where there has been none. */
export async function findMove(
  repository: RepositoryReader,
  { database, instance }: { database: string; instance?: string | undefined },
  options: SignalOption = {},
): Promise<FoundMove | undefined> {
  const prefix = instance === undefined ? movePrefix : movesOf(instance, database);
  const folders = new Map<string, { id: string; keys: string[] }>();
  for await (const { key } of repository.store.list(prefix, options)) {
    const record = moveRecordOf(key);
    if (record === undefined || record.folder !== moveFolder(instanceOf(key), database, record.id)) continue;
    const folder = folders.get(record.folder) ?? { id: record.id, keys: [] };
    folder.keys.push(key);
    folders.set(record.folder, folder);
  }
  // Ids begin with the time.
  for (const [folder, { keys }] of [...folders].toSorted(([, a], [, b]) => (a.id < b.id ? 1 : -1))) {
    const records: MoveRecord[] = [];
    for (const key of keys) records.push(...(await readRecords(repository, key, options)));
    const journal = fold(folder, records);
    // Two names may have one slug.
    if (journal.facts.database === database) return { folder, records, written: keys.length, journal };
  }
  return undefined;
}

function instanceOf(key: string): string {
  return key.split("/")[1] ?? "";
}

async function readRecords(repository: RepositoryReader, key: string, options: SignalOption): Promise<MoveRecord[]> {
  const text = await readObject(repository.store, key, options);
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), v.union([MoveRecord, v.array(MoveRecord)])), text);
  if (parsed.success) return [parsed.output].flat();
  throw new PgkitError("manifest-corrupt", `${key} in ${repository.where} is no record of a move`, {
    hint: "it was cut, changed, or written by a newer pgkit",
  });
}

interface Written {
  records: MoveRecord[];
  /** The last of them, which are not in an object yet. */
  waiting: MoveRecord[];
  /** Objects so far. */
  written: number;
}

function journalOf(
  { store, where }: Repository,
  folder: string,
  state: Written,
  { clock, signal }: JournalOptions,
): Journal {
  const view = () => fold(folder, state.records);
  const later = (record: NewRecord) => {
    const whole = { format: 1, at: rfc3339(clock.now()), ...record } as MoveRecord;
    state.waiting.push(whole);
    state.records.push(whole);
  };
  return {
    folder,
    facts: view().facts,
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
      const [first, ...others] = state.waiting;
      const bytes = Buffer.from(`${JSON.stringify(others.length === 0 ? first : state.waiting, undefined, 2)}\n`);
      try {
        const key = moveRecordKey(folder, state.written + 1);
        await putAbsent(store, key, bytes, signal === undefined ? {} : { signal });
      } catch (error) {
        // What is not written is not known either.
        state.waiting.pop();
        state.records.pop();
        if (!isPgkitError(error, "condition-failed")) throw error;
        throw new PgkitError("locked", `another pgkit goes on with the move of ${view().facts.database} (${where})`, {
          hint: "pgkit move status tells who; this run has stopped and changes nothing more",
          cause: error,
        });
      }
      state.waiting = [];
      state.written++;
    },
  };
}

/** What all records together say. */
function fold(folder: string, records: readonly MoveRecord[]): JournalView {
  const [first] = records;
  if (first?.type !== "begun") {
    throw new PgkitError("manifest-corrupt", `the journal ${folder} does not begin with its first record`, {
      hint: "somebody has removed records of it",
    });
  }
  const steps = new Map<string, StepEntry>();
  let state: MoveState = "moving";
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
  return { folder, facts: first.facts, state, message, begunAt: first.at, changedAt, writeBlockedMs, steps };
}
