import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import { type Lsn, parseSegmentName, walFileKind } from "../lib/lsn.ts";
import type { Clock } from "../lib/time.ts";
import type { Repository } from "../repo/repository.ts";
import { type Lineage, putPartial, putWal, recordGap, removePartial } from "../repo/wal.ts";
import type { StoredPartial } from "../repo/wal-put.ts";
import { checkSegment } from "./segment.ts";
import { collectCompleted, type StreamFolder, segmentUnderWay, waitingFiles } from "./stream-folder.ts";
import { type Losses, saveLosses } from "./stream-loss.ts";
import { readTail, type Tail } from "./stream-tail.ts";

/** One repository, and how far it has what the server wrote. */
export interface Destination {
  readonly repository: Repository;
  readonly lineage: Lineage;
  /** All WAL before it is stored; `undefined` until the first of this run is. */
  position: { timeline: number; lsn: Lsn } | undefined;
  /** Waiting files that it has. */
  readonly stored: Set<string>;
  readonly tail: Tail;
  flushed: { name: string; length: number; partial: StoredPartial } | undefined;
  holdsLease: boolean;
}

export interface StoreOptions {
  folder: StreamFolder;
  losses: Losses;
  /** All of them, to know when a local file is needed no more. */
  destinations: readonly Destination[];
  /** Also what there is of the segment under way. */
  withPartial: boolean;
  clock: Clock;
  signal: AbortSignal;
}

/** Stores what is there by now: complete files in their order, then what there is of the segment under way. */
export async function storeReceived(destination: Destination, options: StoreOptions): Promise<void> {
  const { folder, withPartial } = options;
  await recordLosses(destination, options);
  // Asked for first: whatever was complete before this one was begun is collected now and stored before it.
  const underWay = await segmentUnderWay(folder);
  await folder.exclusive(() => collectCompleted(folder));
  await storeWaiting(destination, options);
  if (withPartial && underWay !== undefined) await storePartial(destination, underWay, options);
}

/** One at a time, which keeps up with most servers: a second one would take 25 MB. */
async function storeWaiting(destination: Destination, options: StoreOptions): Promise<void> {
  const { folder, signal } = options;
  for (const name of await waitingFiles(folder)) {
    if (destination.stored.has(name)) continue;
    signal.throwIfAborted();
    await storeFile(destination, name, options);
    const segment = parseSegmentName(name, folder.segmentBytes);
    if (segment !== undefined) {
      destination.position = { timeline: segment.timeline, lsn: segment.startLsn + BigInt(folder.segmentBytes) };
    }
    destination.stored.add(name);
    await removeStored(name, options);
  }
}

/** Read into the tail's memory: what that had is read again when it is needed. */
async function storeFile(
  { repository, lineage, flushed, tail }: Destination,
  name: string,
  { folder, clock, signal }: StoreOptions,
): Promise<void> {
  tail.name = "";
  const content = await readInto(tail.bytes, join(folder.waiting, name));
  if (walFileKind(name) === "partial") {
    await putPartial(repository, lineage, name.slice(0, 24), content, { signal });
    return;
  }
  if (walFileKind(name) === "segment")
    checkSegment(content, name, { systemId: lineage.systemId, segmentBytes: folder.segmentBytes });
  await putWal(repository, lineage, name, content, { clock, signal });
  // Of an earlier run, or of this one: the first that is stored whole after its part was.
  if (flushed === undefined || flushed.name === name) await removePartial(repository, lineage, name, { signal });
}

/** A WAL file whole: none is larger than a segment. */
async function readInto(buffer: Buffer, path: string): Promise<Buffer> {
  const file = await open(path, "r");
  try {
    let length = 0;
    for (;;) {
      const { bytesRead } = await file.read(buffer, length, buffer.length - length, length);
      if (bytesRead === 0) return buffer.subarray(0, length);
      length += bytesRead;
    }
  } finally {
    await file.close();
  }
}

async function removeStored(name: string, { destinations, folder }: StoreOptions): Promise<void> {
  if (!destinations.every(({ stored }) => stored.has(name))) return;
  await rm(join(folder.waiting, name), { force: true });
  for (const { stored } of destinations) stored.delete(name);
}

async function storePartial(destination: Destination, name: string, { folder, signal }: StoreOptions): Promise<void> {
  const { repository, lineage, tail } = destination;
  const segment = parseSegmentName(name, folder.segmentBytes);
  if (segment === undefined) return;
  const path = join(folder.receive, `${name}.partial`);
  if (!(await readTail(tail, name, path, segment.startLsn)) || tail.length === 0) return;
  const before = destination.flushed?.name === name ? destination.flushed : undefined;
  if (before === undefined || tail.length > before.length) {
    const previous = before === undefined ? {} : { previous: before.partial };
    const content = tail.bytes.subarray(0, tail.length);
    const partial = await putPartial(repository, lineage, name, content, { ...previous, signal });
    destination.flushed = { name, length: tail.length, partial };
  }
  destination.position = { timeline: segment.timeline, lsn: segment.startLsn + BigInt(tail.recordEnd) };
}

/** Before anything behind it is stored, so that a repository never looks whole where it is not. */
async function recordLosses(destination: Destination, { losses, destinations, clock, signal }: StoreOptions) {
  const { repository, lineage } = destination;
  for (const lost of losses.lost) {
    if (lost.recordedIn.includes(repository.where)) continue;
    const { recordedIn: _, ...gap } = lost;
    await recordGap(repository, lineage, gap, clock, { signal });
    lost.recordedIn.push(repository.where);
    if (destinations.every((one) => lost.recordedIn.includes(one.repository.where))) {
      losses.lost = losses.lost.filter((one) => one !== lost);
    }
    await saveLosses(losses);
  }
}
