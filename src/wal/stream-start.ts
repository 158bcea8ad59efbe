import { readdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { type Lsn, segmentAt, segmentName, timelineName } from "../lib/lsn.ts";
import { timelineHistory } from "../postgres/receivewal.ts";
import type { Session } from "../postgres/session.ts";
import { createSlot, dropSlot, readSlot, type SlotFacts, slotTaken } from "../postgres/slot.ts";
import type { ToolTarget } from "../postgres/tools.ts";
import type { Stream, Streamer } from "./stream-context.ts";
import type { StreamFolder } from "./stream-folder.ts";
import { positionOn, type TimelinePath, timelineOfSegment, timelinePath } from "./stream-path.ts";
import { firstMissing } from "./stream-resume.ts";

export type HeldSlot = SlotFacts & { restartLsn: Lsn; isNew: boolean };

/**
 * The slot, made where it is not there or has lost its WAL. Fails with `refused-overwrite` when another kind of slot has
 * its name, with `locked` when somebody uses it.
 */
export async function holdSlot(session: Session, { request }: Streamer): Promise<HeldSlot> {
  const { slot: name, report } = request;
  const there = await readSlot(session, name);
  if (there?.kind === "logical") {
    throw new PgkitError("refused-overwrite", `the replication slot ${name} is a logical one of something else`, {
      hint: "name another by archive.slot of the instance",
    });
  }
  if (there?.activePid !== undefined) throw slotTaken(name, there.activePid);
  const isLost = there?.walStatus === "lost";
  if (isLost) {
    const message = `the server has removed WAL that the slot ${name} was to keep (max_slot_wal_keep_size, from 18 on also idle_replication_slot_timeout); the slot is made anew`;
    report({ type: "warning", message, hint: "what is lost, if anything, is said as soon as WAL is asked for" });
    await dropSlot(session, name);
  }
  if (there?.restartLsn !== undefined && !isLost) return { ...there, restartLsn: there.restartLsn, isNew: false };
  // One that was made without reserving anything keeps nothing: `pg_create_physical_replication_slot(name)`.
  if (there !== undefined && !isLost) await dropSlot(session, name);
  const made = await createSlot(session, name);
  report({ type: "note", message: `the replication slot ${name} was made on the server` });
  if (made.restartLsn !== undefined) return { ...made, restartLsn: made.restartLsn, isNew: true };
  throw new PgkitError("postgres-failed", `the new replication slot ${name} keeps no WAL`, {
    hint: "see the server's log",
  });
}

/** The server's way to its timeline, with the history files of all its timelines waiting to be stored. */
export async function serverPath(
  target: ToolTarget,
  timeline: number,
  folder: StreamFolder,
  known: Set<number>,
): Promise<TimelinePath> {
  if (timeline === 1) return timelinePath(1, undefined);
  const path = timelinePath(timeline, await timelineHistory(target, timeline));
  for (const { timeline: each } of path) {
    if (each === 1 || known.has(each)) continue;
    const history = each === timeline ? await timelineHistory(target, each) : await olderHistory(target, each);
    if (history !== undefined) await leaveWaiting(folder, `${timelineName(each)}.history`, history);
    known.add(each);
  }
  return path;
}

/** Of a server that was put back, what is stored on its former way must not move the slot. */
export function keepWhatHolds({ destinations }: Stream, path: TimelinePath, flushLsn: Lsn): void {
  for (const destination of destinations) {
    destination.position = destination.position && positionOn(path, destination.position, flushLsn);
  }
}

export interface StartPoint {
  timeline: number;
  /** The beginning of a segment. */
  lsn: Lsn;
}

/** The first segment that is neither in every repository nor waiting here. */
export async function startPoint(
  stream: Stream,
  path: TimelinePath,
  slot: HeldSlot,
  notBefore: Lsn,
): Promise<StartPoint> {
  const { destinations, folder } = stream;
  const { segmentBytes } = folder;
  const slotSegment = segmentAt(1, slot.restartLsn, segmentBytes).startLsn;
  const missing = await Promise.all(
    destinations.map(async ({ repository, lineage, position }) => {
      if (position !== undefined) return segmentAt(1, position.lsn, segmentBytes).startLsn;
      const request = { repository, lineage, segmentBytes, path, slotLsn: slot.restartLsn, isNewSlot: slot.isNew };
      return (await firstMissing(request)) ?? slotSegment;
    }),
  );
  let lsn = missing.reduce((a, b) => (b < a ? b : a));
  if (lsn < notBefore) lsn = notBefore;
  const waiting = new Set(await readdir(folder.waiting));
  for (;;) {
    const timeline = timelineOfSegment(path, lsn, segmentBytes);
    if (!waiting.has(segmentName({ timeline, startLsn: lsn }, segmentBytes))) return { timeline, lsn };
    lsn += BigInt(segmentBytes);
  }
}

/** A server keeps the histories of all its timelines, but nobody notices when an old one is removed. */
async function olderHistory(target: ToolTarget, timeline: number): Promise<string | undefined> {
  try {
    return await timelineHistory(target, timeline);
  } catch (error) {
    if (isPgkitError(error) && /could not open file .*\.history/.test(error.message)) return undefined;
    throw error;
  }
}

async function leaveWaiting({ waiting }: StreamFolder, name: string, content: string): Promise<void> {
  const path = join(waiting, name);
  await writeFile(`${path}.new`, content, { mode: 0o600 });
  await rename(`${path}.new`, path);
}
