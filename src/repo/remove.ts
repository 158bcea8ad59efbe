import { isPgkitError, type PgkitError } from "../lib/errors.ts";
import { rfc3339 } from "../lib/time.ts";
import type { SignalOption } from "../store/store.ts";
import { putAbsent } from "./absent.ts";
import { type Leftover, readFolder } from "./inventory.ts";
import { describeKeep, isPinned, type Keep, readKeep } from "./keep.ts";
import { damageKey, keepKey, manifestKey } from "./layout.ts";
import { lockedUntil } from "./locks.ts";
import type { Manifest } from "./manifest.ts";
import { type Repository, readObject } from "./repository.ts";
import type { BackupName } from "./retention.ts";

/** `skipped` says why something stays after all; `refused` is the store's own no. */
export type Removal = "removed" | { skipped: string } | { refused: PgkitError };

/**
 * Removes a backup unless it is pinned or locked by now: the manifest, after which it does not exist; then its files;
 * then the pin it may have had. Whoever pins writes the pin and then looks for the manifest; we remove the manifest and
 * then look for a pin, and put the manifest back when there is one. So either we see the pin or the other that it came
 * too late.
 */
export async function removeBackup(
  repository: Repository,
  backup: Manifest,
  now: Date,
  options: SignalOption,
): Promise<Removal> {
  const { store } = repository;
  const pinnedBefore = await pinOf(repository, backup, now, options);
  if (pinnedBefore !== undefined) return { skipped: pinnedBefore };
  const until = await lockedUntil(repository, backup, options);
  // Nothing of a locked backup is removed: its files alone would be of no use, its manifest alone a lie.
  if (until !== undefined && until > now) return { skipped: `under object lock until ${rfc3339(until)}` };
  const key = manifestKey(backup.instance, backup.id);
  const manifest = await unlessMissing(readObject(store, key, options));
  const refused = await removeKeys(repository, [key], options);
  if (refused !== undefined) return { refused };
  const pinnedSince = await pinOf(repository, backup, now, options);
  if (pinnedSince !== undefined && manifest !== undefined) {
    await putAbsent(store, key, Buffer.from(manifest), options);
    return { skipped: pinnedSince };
  }
  return await removeFilesAndPin(repository, backup, options);
}

/** Removes what is left of a backup unless it changed since it was found, got a manifest, or is pinned. */
export async function removeLeftover(
  repository: Repository,
  leftover: Leftover,
  now: Date,
  options: SignalOption,
): Promise<Removal> {
  const pinned = await pinOf(repository, leftover, now, options);
  if (pinned !== undefined) return { skipped: pinned };
  const present = await readFolder(repository, leftover, options);
  if (present !== undefined && present.folder.newestAt > leftover.newestAt) {
    return { skipped: "something was added to it since" };
  }
  // Last, so that a manifest which is written meanwhile is seen.
  const exists = (await repository.store.head(manifestKey(leftover.instance, leftover.id), options)) !== undefined;
  return exists ? { skipped: "it has a manifest by now" } : await removeFilesAndPin(repository, leftover, options);
}

/** Removes a pin whose backup has neither manifest nor files; false where it has by now. */
export async function removeOrphanedKeep(repository: Repository, keep: Keep, options: SignalOption): Promise<boolean> {
  const { store } = repository;
  if ((await readFolder(repository, keep, options)) !== undefined) return false;
  if ((await store.head(manifestKey(keep.instance, keep.id), options)) !== undefined) return false;
  await store.delete([keepKey(keep.instance, keep.id)], options);
  return true;
}

async function removeFilesAndPin(repository: Repository, backup: BackupName, options: SignalOption): Promise<Removal> {
  // Whatever is in the folder, also what no manifest names, such as a part that was stored twice.
  const present = await readFolder(repository, backup, options);
  const refused = await removeKeys(repository, present?.keys ?? [], options);
  if (refused !== undefined) return { refused };
  const { instance, id } = backup;
  await repository.store.delete([keepKey(instance, id), damageKey(instance, id)], options);
  return "removed";
}

async function removeKeys(
  { store }: Repository,
  keys: readonly string[],
  options: SignalOption,
): Promise<PgkitError | undefined> {
  try {
    if (keys.length > 0) await store.delete(keys, options);
    return undefined;
  } catch (error) {
    if (!isPgkitError(error, "store-denied")) throw error;
    return error;
  }
}

async function pinOf(
  repository: Repository,
  backup: BackupName,
  now: Date,
  options: SignalOption,
): Promise<string | undefined> {
  const keep = await readKeep(repository, backup, options);
  return keep !== undefined && isPinned(keep, now) ? describeKeep(keep) : undefined;
}

async function unlessMissing<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (isPgkitError(error, "object-missing")) return undefined;
    throw error;
  }
}
