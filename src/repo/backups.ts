import pLimit from "p-limit";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import type { SignalOption } from "../store/store.ts";
import { putAbsent } from "./absent.ts";
import { manifestIdentity, manifestKey, manifestPrefix, mayBeLater } from "./layout.ts";
import { formatManifest, type Manifest, parseManifest } from "./manifest.ts";
import { type Repository, type RepositoryReader, readObject } from "./repository.ts";

/** What a repository holds. An unreadable manifest is told apart from an absent one: the backup may well be whole. */
export interface BackupList {
  /** Oldest first. */
  backups: Manifest[];
  unreadable: { instance: string; id: string; error: PgkitError }[];
}

/** How many manifests are read at once: enough to hide the store's latency, few enough for its request limits. */
const parallelReads = 16;

/** Every backup, or every one of an instance. Costs one request a thousand backups and one a backup. */
export async function listBackups(
  repository: RepositoryReader,
  { instance, signal }: SignalOption & { instance?: string | undefined } = {},
): Promise<BackupList> {
  const list: BackupList = { backups: [], unreadable: [] };
  const limit = pLimit(parallelReads);
  const reads: Promise<void>[] = [];
  const prefix = instance === undefined ? manifestPrefix : `${manifestPrefix}${instance}/`;
  for await (const { key } of repository.store.list(prefix, { signal })) {
    const found = manifestIdentity(key);
    if (found === undefined) continue;
    const read = limit(() => readInto(list, repository, found, { signal }));
    // Awaited below; one that fails while the list goes on, or after that has failed, must not count as unobserved.
    read.catch(() => undefined);
    reads.push(read);
  }
  await Promise.all(reads);
  list.backups.sort((a, b) => a.startedAt.localeCompare(b.startedAt) || a.id.localeCompare(b.id));
  return list;
}

/** The newest readable manifest of a logical backup of the database, by two requests; `undefined` when there is none. */
export async function newestManifest(
  repository: RepositoryReader,
  { instance, database, signal }: SignalOption & { instance: string; database: string },
): Promise<Manifest | undefined> {
  const ids: string[] = [];
  for await (const { key } of repository.store.list(`${manifestPrefix}${instance}/`, { signal })) {
    const id = manifestIdentity(key)?.id;
    if (id !== undefined && mayBeLater(id, database, undefined)) ids.push(id);
  }
  const newest = ids.toSorted().at(-1);
  const manifest =
    newest === undefined ? undefined : await readManifest(repository, { instance, id: newest }, { signal });
  return manifest?.database === database ? manifest : undefined;
}

/** The backup of this id, in whichever instance. Fails with `backup-missing` or `manifest-corrupt`. */
export async function findBackup(
  repository: RepositoryReader,
  id: string,
  options: SignalOption = {},
): Promise<Manifest> {
  for await (const { key } of repository.store.list(manifestPrefix, options)) {
    const found = manifestIdentity(key);
    if (found?.id === id) return readManifest(repository, found, options);
  }
  throw new PgkitError("backup-missing", `there is no backup ${id} in ${repository.where}`, {
    hint: "pgkit list shows the backups",
  });
}

/** One manifest. Fails with `backup-missing`, `manifest-corrupt` or `format-unsupported`. */
export async function readManifest(
  repository: RepositoryReader,
  { instance, id }: { instance: string; id: string },
  options: SignalOption = {},
): Promise<Manifest> {
  const key = manifestKey(instance, id);
  const where = `${key} in ${repository.where}`;
  const text = await readObject(repository.store, key, options).catch((cause: unknown) => {
    if (!isPgkitError(cause, "object-missing")) throw cause;
    throw new PgkitError("backup-missing", `there is no backup ${id} in ${repository.where}`, { cause });
  });
  const manifest = parseManifest(text, where);
  if (manifest.id === id && manifest.instance === instance && manifest.repository === repository.id) return manifest;
  throw new PgkitError("manifest-corrupt", `${where} is the manifest of ${manifest.instance}/${manifest.id}`, {
    hint: `was it copied here from repository ${manifest.repository}? this one is ${repository.id}`,
  });
}

/** Makes a backup exist: the one write that does. All its files must be stored and proven before. */
export async function commitBackup(
  repository: Repository,
  manifest: Manifest,
  options: SignalOption & { retainUntil?: Date | undefined } = {},
): Promise<void> {
  const { signal, retainUntil } = options;
  const key = manifestKey(manifest.instance, manifest.id);
  await putAbsent(repository.store, key, formatManifest(manifest), {
    signal,
    ...(retainUntil === undefined ? {} : { retainUntil }),
  });
}

async function readInto(
  list: BackupList,
  repository: RepositoryReader,
  found: { instance: string; id: string },
  options: SignalOption,
): Promise<void> {
  try {
    list.backups.push(await readManifest(repository, found, options));
  } catch (error) {
    // Removed between the listing and this read: by now it is not there.
    if (isPgkitError(error, "backup-missing")) return;
    if (!isPgkitError(error, "manifest-corrupt", "format-unsupported")) throw error;
    list.unreadable.push({ ...found, error });
  }
}
