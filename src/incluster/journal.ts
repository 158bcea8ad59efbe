import { volumeRestoreFolder, volumeRestoreOf, volumeRestoresOf } from "../repo/layout.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { type FoundJournal, type Journal, type JournalKind, type JournalView, readJournal } from "../saga/journal.ts";
import type { SignalOption } from "../store/store.ts";
import type { VolumeRestoreFacts } from "./facts.ts";

const states = ["restoring", "stopped", "restored", "rolling-back", "rolled-back", "finishing", "finished"] as const;

/** `stopped` can be resumed or rolled back, `restored` rolled back or finished. */
export type RestoreState = (typeof states)[number];
export type RestoreJournal = Journal<VolumeRestoreFacts, RestoreState>;
export type RestoreView = JournalView<VolumeRestoreFacts, RestoreState>;
export type FoundRestore = FoundJournal<VolumeRestoreFacts, RestoreState>;

/** The durable memory of a restore in a cluster, in the repository that it restores from. */
export const journalKind: JournalKind<VolumeRestoreFacts, RestoreState> = {
  what: "restore",
  states,
  folderOf: ({ instance, id }) => volumeRestoreFolder(instance, id),
  taken: ({ instance }) => ({
    message: `another pgkit goes on with the restore of ${instance}`,
    hint: `pgkit restore --in-kubernetes ${instance} --status tells who; this run has stopped and changes nothing more`,
  }),
};

/** The restore of an instance that is under way, else the newest; `undefined` where there has been none. */
export async function findRestore(
  repository: RepositoryReader,
  instance: string,
  options: SignalOption = {},
): Promise<FoundRestore | undefined> {
  const found = await restoresOf(repository, instance, options);
  return found.find(({ journal }) => !isOver(journal.state)) ?? found[0];
}

/** The restores of an instance, newest first. */
export async function restoresOf(
  repository: RepositoryReader,
  instance: string,
  { most = 10, ...options }: SignalOption & { most?: number } = {},
): Promise<FoundRestore[]> {
  const keys = new Map<string, string[]>();
  for await (const { key } of repository.store.list(volumeRestoresOf(instance), options)) {
    const id = volumeRestoreOf(key)?.id;
    if (id !== undefined) keys.set(id, [...(keys.get(id) ?? []), key]);
  }
  const found: FoundRestore[] = [];
  // Ids begin with the time.
  for (const id of [...keys.keys()].toSorted().toReversed().slice(0, most)) {
    found.push(await readJournal(journalKind, repository, keys.get(id) ?? [], options));
  }
  return found;
}

/** True for one that nothing can be done with any more. */
export function isOver(state: RestoreState): boolean {
  return state === "rolled-back" || state === "finished";
}
