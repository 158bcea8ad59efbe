import { moveFolder, movePrefix, moveRecordOf, movesOf } from "../repo/layout.ts";
import type { Repository, RepositoryReader } from "../repo/repository.ts";
import * as saga from "../saga/journal.ts";
import type { SignalOption } from "../store/store.ts";
import type { MoveFacts } from "./step.ts";

export type Runner = saga.Runner;

/** What a move is in, as far as it got: `stopped` can be resumed or rolled back. */
const states = ["moving", "stopped", "switched", "rolling-back", "rolled-back", "finishing", "finished"] as const;
export type MoveState = (typeof states)[number];

/** The durable memory of one move. */
export type Journal = saga.Journal<MoveFacts, MoveState>;

/** A journal to look at. */
export type JournalView = saga.JournalView<MoveFacts, MoveState>;

/** A move as its records tell, to look at. */
export type FoundMove = saga.FoundJournal<MoveFacts, MoveState>;

const kind: saga.JournalKind<MoveFacts, MoveState> = {
  what: "move",
  states,
  folderOf: ({ source, database, id }) => moveFolder(source.instance, database, id),
  taken: ({ database }) => ({
    message: `another pgkit goes on with the move of ${database}`,
    hint: "pgkit move status tells who; this run has stopped and changes nothing more",
  }),
};

/** Begins the journal of a new move. */
export async function beginJournal(
  repository: Repository,
  facts: MoveFacts,
  runner: Runner,
  options: saga.JournalOptions,
): Promise<Journal> {
  return saga.beginJournal(kind, repository, facts, runner, options);
}

/** Takes up the journal of a move to go on with it: from then on every other runner of it loses. */
export async function takeUpJournal(
  repository: Repository,
  found: FoundMove,
  does: string,
  runner: Runner,
  options: saga.JournalOptions,
): Promise<Journal> {
  return saga.takeUpJournal(kind, repository, found, does, runner, options);
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
  for (const { keys } of [...folders.values()].toSorted((a, b) => (a.id < b.id ? 1 : -1))) {
    const found = await saga.readJournal(kind, repository, keys, options);
    // Two names may have one slug.
    if (found.journal.facts.database === database) return found;
  }
  return undefined;
}

function instanceOf(key: string): string {
  return key.split("/")[1] ?? "";
}
