import type { PgkitError } from "../lib/errors.ts";
import type { ObjectInfo, ObjectReader, SignalOption, StrayUploads } from "../store/store.ts";
import { type BackupList, listBackups } from "./backups.ts";
import { type Keep, readKeeps } from "./keep.ts";
import { backupFolder, fileOwner, filesPrefix } from "./layout.ts";
import { backupLease, backupLeasePrefix, heldLeases } from "./lease.ts";
import type { RepositoryReader } from "./repository.ts";
import { readAllWal, type StoredWal } from "./wal-inventory.ts";

/** All that retention decides on. */
export interface Inventory extends BackupList {
  keeps: Keep[];
  leftovers: Leftover[];
  /** Unfinished uploads begun before a moment, where the store keeps such. */
  uploads: { count: number; before: Date } | undefined;
  /** Instances of which a backup is under way. */
  busy: ReadonlySet<string>;
  wal: readonly StoredWal[];
  /** What of the WAL's records cannot be read, and what that means. */
  warnings: readonly string[];
}

/** The folder of a backup that was never committed, or whose removal was cut. */
export interface Leftover {
  instance: string;
  id: string;
  objects: number;
  bytes: number;
  newestAt: Date;
}

/** How old the newest object of an unfinished backup must be before it counts as given up. */
export const leftoverAgeMs = 24 * 60 * 60 * 1000;

export interface InventoryOptions extends SignalOption {
  /** The time by the store's clock, as objects carry its times: see `StoreCapabilities.clockSkewMs`. */
  storeNow: Date;
}

/**
 * Reads the whole repository. The order matters: files first, then leases, manifests last. A backup that is committed
 * meanwhile is then found by its manifest, or its files were not seen at all; read the other way round, its manifest
 * would be missed and its files, seen, would look like leftovers. Pins come after the manifests, so that one made
 * meanwhile is found, too.
 */
export async function readInventory(
  repository: RepositoryReader & { store: ObjectReader & { uploads?: StrayUploads | undefined } },
  { storeNow, signal }: InventoryOptions,
): Promise<Inventory> {
  const warnings: string[] = [];
  const unreadable = ({ message }: PgkitError) => warnings.push(`${message}; the WAL that it is about stays`);
  // Before the leases, too: a backup that begins after that needs only WAL which was not yet there to be listed.
  const wal = await readAllWal(repository, { signal, unreadable });
  const folders = await readFolders(repository, { signal });
  const held = await heldLeases(repository, storeNow, { signal });
  const uploads = await findUploads(repository.store.uploads, held, storeNow, { signal });
  const list = await listBackups(repository, { signal });
  const exists = new Set([...list.backups, ...list.unreadable].map(({ instance, id }) => `${instance}/${id}`));
  const leftovers = folders.filter(
    ({ instance, id, newestAt }) =>
      newestAt < longAgo(storeNow) && !held.has(backupLease(instance)) && !exists.has(`${instance}/${id}`),
  );
  const busy = new Set([...held].flatMap((lease) => instanceOfLease(lease) ?? []));
  return { ...list, leftovers, uploads, busy, wal, warnings, keeps: await readKeeps(repository, { signal }) };
}

/** What is under the folder of one backup, `undefined` where nothing is. */
export async function readFolder(
  { store }: RepositoryReader,
  { instance, id }: { instance: string; id: string },
  options: SignalOption = {},
): Promise<{ folder: Leftover; keys: string[] } | undefined> {
  const keys: string[] = [];
  let folder: Leftover | undefined;
  for await (const info of store.list(backupFolder(instance, id), options)) {
    keys.push(info.key);
    folder = withObject(folder ?? emptyFolder(instance, id), info);
  }
  return folder && { folder, keys };
}

async function readFolders({ store }: RepositoryReader, options: SignalOption): Promise<Leftover[]> {
  const folders = new Map<string, Leftover>();
  for await (const info of store.list(filesPrefix, options)) {
    const owner = fileOwner(info.key);
    if (owner === undefined) continue;
    const name = `${owner.instance}/${owner.id}`;
    folders.set(name, withObject(folders.get(name) ?? emptyFolder(owner.instance, owner.id), info));
  }
  return [...folders.values()];
}

/** Only a moment can be given to `abort`, so it is one before every upload that may be of a backup under way. */
async function findUploads(
  uploads: StrayUploads | undefined,
  held: ReadonlySet<string>,
  storeNow: Date,
  options: SignalOption,
): Promise<Inventory["uploads"]> {
  if (uploads === undefined) return undefined;
  const anyBackup = [...held].some((lease) => lease.startsWith(backupLeasePrefix));
  let before = longAgo(storeNow);
  const all: Date[] = [];
  for await (const { key, startedAt } of uploads.list(options)) {
    const owner = fileOwner(key);
    const underWay = owner === undefined ? anyBackup : held.has(backupLease(owner.instance));
    if (underWay && startedAt < before) before = startedAt;
    all.push(startedAt);
  }
  return { count: all.filter((startedAt) => startedAt < before).length, before };
}

function instanceOfLease(lease: string): string | undefined {
  return lease.startsWith(backupLeasePrefix) ? lease.slice(backupLeasePrefix.length) : undefined;
}

function longAgo(storeNow: Date): Date {
  return new Date(storeNow.getTime() - leftoverAgeMs);
}

function emptyFolder(instance: string, id: string): Leftover {
  return { instance, id, objects: 0, bytes: 0, newestAt: new Date(0) };
}

function withObject(folder: Leftover, { bytes, modifiedAt }: ObjectInfo): Leftover {
  return {
    ...folder,
    objects: folder.objects + 1,
    bytes: folder.bytes + bytes,
    newestAt: modifiedAt > folder.newestAt ? modifiedAt : folder.newestAt,
  };
}
