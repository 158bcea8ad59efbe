import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { timelineName, type WalFileKind, walFileKind } from "../lib/lsn.ts";
import { collect, release } from "../lib/streams.ts";
import { type Clock, rfc3339, systemClock } from "../lib/time.ts";
import type { ObjectInfo, SignalOption } from "../store/store.ts";
import { putAbsent } from "./absent.ts";
import type { Encoding } from "./encoding.ts";
import { gapKey, gapPrefix, lineageKey, lineageOf, walFileOf, walFolder, walKey, walPrefix } from "./layout.ts";
import { type Repository, type RepositoryReader, readObject } from "./repository.ts";
import { decodeWal, encodingOfKey, walSuffixes } from "./wal-object.ts";
import { putLonger, putOnce, type StoredPartial, type WalKeys, withoutZeroTail } from "./wal-put.ts";
import { formatGap, formatLineage, type Gap, parseGap, parseLineage } from "./wal-records.ts";

/** The WAL of one server: `systemId` is pg_control's, as decimal digits. */
export interface Lineage {
  instance: string;
  systemId: string;
}

/** What was recorded of a lineage when it began. */
export interface LineageFacts extends Lineage {
  /** 1 MiB to 1 GiB, a power of two; the same for the whole life of a server. */
  segmentBytes: number;
  /** Such as `17.2`; a later minor does not change it. */
  serverVersion: string;
  createdAt: string;
}

/** A stored WAL file by PostgreSQL's own name for it. */
export interface WalFile {
  name: string;
  kind: WalFileKind;
  key: string;
  encoding: Encoding[];
  storedBytes: number;
  /** By the store's clock. */
  storedAt: Date;
}

/** What was recorded when the lineage began, `undefined` where the store said that there is no such lineage. */
export async function readLineage(
  { store, where }: RepositoryReader,
  { instance, systemId }: Lineage,
  options: SignalOption = {},
): Promise<LineageFacts | undefined> {
  const key = lineageKey({ instance, systemId });
  try {
    return parseLineage(await readObject(store, key, options), `${key} in ${where}`);
  } catch (error) {
    if (isPgkitError(error, "object-missing")) return undefined;
    throw error;
  }
}

/** Every lineage of an instance, or of all, oldest first. Costs two requests a lineage, however much WAL it has. */
export async function listLineages(
  repository: RepositoryReader,
  instance: string | undefined,
  { signal, unreadable }: SignalOption & { unreadable?: ((error: PgkitError) => void) | undefined } = {},
): Promise<LineageFacts[]> {
  const prefix = instance === undefined ? walPrefix : `${walPrefix}${instance}/`;
  const found: LineageFacts[] = [];
  for (let after: string | undefined = prefix; after !== undefined; ) {
    const key: string | undefined = await firstKey(repository, prefix, { after, signal });
    const lineage = key === undefined ? undefined : lineageOf(key);
    try {
      const facts = lineage && (await readLineage(repository, lineage, { signal }));
      if (facts !== undefined) found.push(facts);
    } catch (error) {
      if (unreadable === undefined || !isPgkitError(error, "manifest-corrupt", "format-unsupported")) throw error;
      unreadable(error);
    }
    // "0" is the character after "/": all of the folder, or the foreign key, is behind us.
    after = lineage === undefined ? key : `${walPrefix}${lineage.instance}/${lineage.systemId}0`;
  }
  return found.toSorted((a, b) => a.createdAt.localeCompare(b.createdAt) || a.systemId.localeCompare(b.systemId));
}

/**
 * Records a lineage, before its first file; gives what is recorded when it was before. Fails with `system-mismatch` when
 * that says another segment size.
 */
export async function createLineage(
  repository: Repository,
  facts: Omit<LineageFacts, "createdAt">,
  clock: Clock,
  options: SignalOption = {},
): Promise<LineageFacts> {
  const { instance, systemId, segmentBytes, serverVersion } = facts;
  const there = await readLineage(repository, facts, options);
  if (there !== undefined) return assertSegmentBytes(repository, there, segmentBytes);
  const made = { instance, systemId, segmentBytes, serverVersion, createdAt: rfc3339(clock.now()) };
  try {
    await putAbsent(repository.store, lineageKey(facts), formatLineage(made), {
      ...options,
      ...lockOf(repository, clock),
    });
    return made;
  } catch (error) {
    if (!isPgkitError(error, "condition-failed")) throw error;
    return assertSegmentBytes(repository, (await readLineage(repository, facts, options)) ?? made, segmentBytes);
  }
}

export interface PutWalOptions extends SignalOption {
  /** From when the object lock of the repository's settings counts; the process's own where left out. */
  clock?: Clock | undefined;
}

/**
 * Stores a WAL file under its name. When it resolves, the store has it, proven: `stored` by this call, `same` when this
 * very content was there. Fails with `wal-conflict` when another content is there, which is never overwritten (only a
 * partial segment gives way to a longer one), and with `object-corrupt` when what is stored is damaged. Needs no
 * identity for what pgkit stored.
 */
export async function putWal(
  repository: Repository,
  lineage: Lineage,
  name: string,
  content: Uint8Array,
  { clock = systemClock, signal }: PutWalOptions = {},
): Promise<"stored" | "same"> {
  const kind = walFileKind(name);
  if (kind === undefined) {
    const hint = "archive_command gives the name as %f, and the path as %p";
    throw new PgkitError("wal-invalid", `"${name}" is not the name of a WAL file`, { hint });
  }
  const keys = keysOf(repository, lineage, name);
  if (kind !== "partial") return await putOnce(repository, keys, content, { ...lockOf(repository, clock), signal });
  return (await putLonger(repository, keys, withoutZeroTail(content), { signal })).outcome;
}

/**
 * Stores what there is of a segment that is still being written, as `segment`.partial, without the zeros at its end. A
 * longer one that is there stays. Giving what the last call gave as `previous` spares reading what is stored.
 */
export async function putPartial(
  repository: Repository,
  lineage: Lineage,
  segment: string,
  content: Uint8Array,
  options: SignalOption & { previous?: StoredPartial | undefined } = {},
): Promise<StoredPartial> {
  const keys = keysOf(repository, lineage, `${segment}.partial`);
  const { etag, plainBytes } = await putLonger(repository, keys, withoutZeroTail(content), options);
  return { etag, plainBytes };
}

/** Removes `segment`.partial, once the whole segment is stored. */
export async function removePartial(
  repository: Repository,
  lineage: Lineage,
  segment: string,
  options: SignalOption = {},
): Promise<void> {
  const { key, former } = keysOf(repository, lineage, `${segment}.partial`);
  await repository.store.delete([key, former], options);
}

/** The stored WAL file of this name, `undefined` where the store said that it is not there. */
export async function findWal(
  repository: RepositoryReader,
  lineage: Lineage,
  name: string,
  options: SignalOption = {},
): Promise<WalFile | undefined> {
  const { key, former } = keysOf(repository, lineage, name);
  const info = (await repository.store.head(key, options)) ?? (await repository.store.head(former, options));
  return info && walFile(info);
}

/**
 * A WAL file's content, whole; of a partial segment, all but the zeros at its end. Fails with `object-missing` when it
 * is gone by now, and with `object-corrupt` when it is damaged.
 */
export async function readWal(
  repository: RepositoryReader,
  { key, encoding }: WalFile,
  options: SignalOption = {},
): Promise<Buffer> {
  const stored = await collect(await repository.store.get(key, options));
  const content = await decodeWal(repository, stored, encoding, `${key} in ${repository.where}`);
  if (content !== stored) release(stored);
  return content;
}

export interface ListWalOptions extends SignalOption {
  timeline?: number | undefined;
  /** Only files whose names sort after this one. */
  after?: string | undefined;
}

/** The stored WAL files by name, a partial segment right before the whole one. Keys that are no WAL file's are passed over. */
export async function* listWal(
  { store }: RepositoryReader,
  lineage: Lineage,
  { timeline, after, signal }: ListWalOptions = {},
): AsyncGenerator<WalFile> {
  const folder = `${walFolder(lineage)}${timeline === undefined ? "" : `${timelineName(timeline)}/`}`;
  const from = after === undefined ? {} : { after: walKey(lineage, after, "") };
  let last: string | undefined;
  for await (const info of store.list(folder, { ...from, signal })) {
    const file = walFile(info);
    if (file === undefined || file.name === last || (after !== undefined && file.name <= after)) continue;
    last = file.name;
    yield file;
  }
}

export interface GapRecord extends Gap {
  key: string;
  recordedAt: string;
}

/** Writes down that WAL was given up, so that no restore believes it is there. Durable when it resolves. */
export async function recordGap(
  repository: Repository,
  lineage: Lineage,
  gap: Gap,
  clock: Clock,
  options: SignalOption = {},
): Promise<GapRecord> {
  const now = clock.now();
  const unique = Math.floor(clock.random() * 0x1_0000_0000).toString(16);
  const key = gapKey(lineage, now, unique);
  const recordedAt = rfc3339(now);
  await putAbsent(repository.store, key, formatGap(gap, recordedAt), options);
  return { ...gap, key, recordedAt };
}

/** All gaps that were recorded, oldest record first. One that cannot be read fails, or is given to `unreadable`. */
export async function readGaps(
  { store, where }: RepositoryReader,
  lineage: Lineage,
  { signal, unreadable }: SignalOption & { unreadable?: ((error: PgkitError) => void) | undefined } = {},
): Promise<GapRecord[]> {
  const gaps: GapRecord[] = [];
  for await (const { key } of store.list(gapPrefix(lineage), { signal })) {
    if (!key.endsWith(".json")) continue;
    try {
      gaps.push({ ...parseGap(await readObject(store, key, { signal }), `${key} in ${where}`), key });
    } catch (error) {
      if (unreadable === undefined || !isPgkitError(error, "manifest-corrupt", "format-unsupported")) throw error;
      unreadable(error);
    }
  }
  return gaps;
}

function keysOf(repository: RepositoryReader, lineage: Lineage, name: string): WalKeys {
  const [suffix, former] = walSuffixes(repository);
  return { key: walKey(lineage, name, suffix), former: walKey(lineage, name, former) };
}

function walFile({ key, bytes, modifiedAt }: ObjectInfo): WalFile | undefined {
  const name = walFileOf(key)?.name;
  const kind = name === undefined ? undefined : walFileKind(name);
  if (name === undefined || kind === undefined) return undefined;
  return { name, kind, key, encoding: encodingOfKey(key), storedBytes: bytes, storedAt: modifiedAt };
}

async function firstKey(
  { store }: RepositoryReader,
  prefix: string,
  options: SignalOption & { after: string },
): Promise<string | undefined> {
  for await (const { key } of store.list(prefix, options)) return key;
  return undefined;
}

function assertSegmentBytes({ where }: Repository, there: LineageFacts, segmentBytes: number): LineageFacts {
  if (there.segmentBytes === segmentBytes) return there;
  const recorded = `${there.instance}/${there.systemId} in ${where} has segments of ${there.segmentBytes} bytes`;
  throw new PgkitError("system-mismatch", `${recorded}, the server of ${segmentBytes}`, {
    hint: "was pg_resetwal --wal-segsize run on it? archive it as an instance of another name",
  });
}

function lockOf({ retainMs }: Repository, clock: Clock): { retainUntil?: Date } {
  return retainMs === undefined ? {} : { retainUntil: new Date(clock.now().getTime() + retainMs) };
}
