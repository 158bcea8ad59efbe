import { open, rm } from "node:fs/promises";
import { join } from "node:path";
import pLimit from "p-limit";
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
  /** Beside that of the tail; memory that is used again and again instead of left to the garbage collector. */
  spare: Buffer | undefined;
  flushed: { name: string; length: number; partial: StoredPartial } | undefined;
  holdsLease: boolean;
}

export interface StoreOptions {
  folder: StreamFolder;
  losses: Losses;
  /** All of them, to know when a local file is needed no more. */
  destinations: readonly Destination[];
  parallel: number;
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

async function storeWaiting(destination: Destination, options: StoreOptions): Promise<void> {
  const { folder, parallel, signal } = options;
  const names = (await waitingFiles(folder)).filter((name) => !destination.stored.has(name));
  const failed = new AbortController();
  const buffers = names.length === 0 ? [] : buffersFor(destination, names.length, parallel);
  const limit = pLimit(Math.max(1, buffers.length));
  const both = AbortSignal.any([signal, failed.signal]);
  const tasks = names.map((name) =>
    limit(async () => {
      const buffer = buffers.pop() ?? Buffer.alloc(folder.segmentBytes);
      await storeFile(destination, name, buffer, { ...options, signal: both });
      buffers.push(buffer);
    }),
  );
  try {
    for (const [index, name] of names.entries()) {
      await tasks[index];
      const segment = parseSegmentName(name, folder.segmentBytes);
      if (segment !== undefined) {
        destination.position = { timeline: segment.timeline, lsn: segment.startLsn + BigInt(folder.segmentBytes) };
      }
      destination.stored.add(name);
      await removeStored(name, options);
    }
  } catch (error) {
    failed.abort(error);
    throw error;
  } finally {
    await Promise.allSettled(tasks);
  }
}

/** One at a time keeps up with most servers; a second one, which takes 25 MB, helps where much waits. What the tail had is read again when it is needed. */
function buffersFor(destination: Destination, files: number, parallel: number): Buffer[] {
  const { tail } = destination;
  tail.name = "";
  if (files < 8 || parallel === 1 || tail.bytes.length > mostBufferBytes) {
    destination.spare = undefined;
    return [tail.bytes];
  }
  destination.spare ??= Buffer.alloc(tail.bytes.length);
  return [tail.bytes, destination.spare];
}

const mostBufferBytes = 16 * 1024 * 1024;

async function storeFile(
  { repository, lineage, flushed }: Destination,
  name: string,
  buffer: Buffer,
  { folder, clock, signal }: StoreOptions,
): Promise<void> {
  signal.throwIfAborted();
  const content = await readInto(buffer, join(folder.waiting, name));
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
