import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { formatLsn, type Lsn } from "../lib/lsn.ts";
import { addressOf, type Connection } from "../postgres/connection.ts";
import { type ReceiveEnd, type ReceiveWal, startReceiveWal } from "../postgres/receivewal.ts";
import type { Session } from "../postgres/session.ts";
import {
  assertFollowable,
  type FollowedServer,
  followedServer,
  lockAgainst,
  openPrimary,
} from "../postgres/slot-server.ts";
import type { ToolTarget } from "../postgres/tools.ts";
import type { Stream, Streamer } from "./stream-context.ts";
import { prepareToReceive } from "./stream-folder.ts";
import { giveUpSlot, noteLoss, untilStoresWork } from "./stream-give-up.ts";
import { enterState, lookAtServer } from "./stream-monitor.ts";
import { backoffMs, mayPass, pause } from "./stream-retry.ts";
import { roomError } from "./stream-room.ts";
import { sayFine, sayTrouble } from "./stream-say.ts";
import { type HeldSlot, holdSlot, keepWhatHolds, type StartPoint, serverPath, startPoint } from "./stream-start.ts";

/** Gives the stream of this server: made when it is first reached. Fails with `system-mismatch`. */
export type StreamOf = (server: FollowedServer) => Promise<Stream>;

/** What is remembered from one connection to the next. */
interface Memory {
  histories: Set<number>;
  /** What is before is lost, and recorded as such. */
  notBefore: Lsn;
  connectedOnce: boolean;
}

/** Receives WAL until the run is stopped, over every end of the connection. Fails with what does not pass by itself. */
export async function followServer(streamer: Streamer, streamOf: StreamOf): Promise<void> {
  const { request, stop } = streamer;
  const memory: Memory = { histories: new Set(), notBefore: 0n, connectedOnce: false };
  for (let failures = 0; !stop.aborted; ) {
    const startedMs = request.clock.monotonicMs();
    try {
      await untilStoresWork(streamer);
      await followOnce(streamer, streamOf, memory);
      failures = 0;
    } catch (cause) {
      if (stop.aborted) return;
      const error = roomError(cause, request.streamFolder);
      const passes = mayPass(error) && (memory.connectedOnce || !isPgkitError(error, "postgres-failed"));
      if (!passes) throw error;
      enterState(streamer, "disconnected");
      sayTrouble(streamer, `instance ${request.instance}`, error);
      failures = request.clock.monotonicMs() - startedMs > 60_000 ? 0 : failures + 1;
      await pause(request.clock, backoffMs(failures, request.clock), stop);
    }
  }
}

/** One connection: until it ends, too much waits, or WAL turns out to be lost. */
async function followOnce(streamer: Streamer, streamOf: StreamOf, memory: Memory): Promise<void> {
  const { request, stop } = streamer;
  const opened = await openPrimary(request.connection, { applicationName: "pgkit wal stream" });
  const { session } = opened;
  try {
    await assertFollowable(session, request.connection);
    const server = await followedServer(session);
    const programs = await request.programsFor(server.major);
    await lockOut(session, streamer);
    const stream = await streamOf(server);
    const target: ToolTarget = { programs, connection: opened.connection, database: opened.connection.database };
    const path = await serverPath(target, server.timeline, stream.folder, memory.histories);
    keepWhatHolds(stream, path, server.flushLsn);
    const slot = await holdSlot(session, streamer);
    streamer.timeline = server.timeline;
    memory.connectedOnce = true;
    while (!stop.aborted) {
      if (!(await roomToReceive(streamer, stream, session))) return;
      const start = await startPoint(stream, path, slot, memory.notBefore);
      await stream.folder.exclusive(() => prepareToReceive(stream.folder, start.timeline, start.lsn));
      const end = await receive(streamer, stream, session, target, opened.connection);
      if (end === "given-up") return;
      if (end !== "full" && !stop.aborted) await afterEnd(end, { streamer, stream, session, slot, start, memory });
      if (end !== "full") return;
    }
  } finally {
    await session.close().catch(() => undefined);
  }
}

/** Receives until it ends or has to end. */
async function receive(
  streamer: Streamer,
  stream: Stream,
  session: Session,
  target: ToolTarget,
  connection: Connection,
): Promise<ReceiveEnd | "full" | "given-up"> {
  const { request, stop } = streamer;
  const receiving = startReceiveWal(target, stream.folder.receive);
  try {
    let ended: ReceiveEnd | undefined;
    receiving.ended.then((end) => {
      ended = end;
    });
    for (let looks = 0; ended === undefined; looks += 1) {
      const server = await lookAtServer(streamer, stream, session);
      // It lives long enough to have been let in.
      if (looks === 1) {
        enterState(streamer, "streaming", `${addressOf(connection)}, timeline ${server.timeline}`);
        sayFine(streamer, `instance ${request.instance}`);
      }
      if (await giveUpSlot(streamer, stream, session)) return "given-up";
      if (streamer.waitingSegments >= mostWaiting(stream)) return "full";
      await endOrTime(receiving, looks === 0 ? 500 : Math.min(request.flushEveryMs, 5_000), streamer);
      if (stop.aborted) break;
    }
    return ended ?? { type: "stopped" };
  } finally {
    await receiving.stop();
  }
}

/** So many segments may wait here: 512 MiB, and no fewer than 8. */
function mostWaiting({ folder }: Stream): number {
  return Math.max(8, Math.floor((512 * 1024 * 1024) / folder.segmentBytes));
}

/** Waits until there is room for more; false when the slot was given up or the run is stopped meanwhile. */
async function roomToReceive(streamer: Streamer, stream: Stream, session: Session): Promise<boolean> {
  const { request, stop } = streamer;
  const most = mostWaiting(stream);
  for (let limit = most; streamer.waitingSegments >= limit; limit = most / 2) {
    enterState(streamer, "paused", `${streamer.waitingSegments} segments wait to be stored`);
    await lookAtServer(streamer, stream, session);
    if (await giveUpSlot(streamer, stream, session)) return false;
    await pause(request.clock, 1_000, stop);
    if (stop.aborted) return false;
  }
  return true;
}

async function endOrTime(receiving: ReceiveWal, ms: number, { request, stop }: Streamer): Promise<void> {
  const over = new AbortController();
  receiving.ended.then(() => over.abort());
  await pause(request.clock, ms, AbortSignal.any([over.signal, stop]));
}

interface Ended {
  streamer: Streamer;
  stream: Stream;
  session: Session;
  slot: HeldSlot;
  start: StartPoint;
  memory: Memory;
}

/** WAL that is lost is written down, and the next connection begins behind it; any other end fails. */
async function afterEnd(end: ReceiveEnd, { streamer, stream, session, slot, start, memory }: Ended): Promise<void> {
  if (end.type === "failed") throw end.error;
  if (end.type !== "removed") return;
  const behind = await noteLoss(streamer, stream, session, slot, start);
  if (behind === undefined) throw end.error;
  memory.notBefore = behind;
  const message = `going on from ${formatLsn(behind)}`;
  streamer.request.report({ type: "note", message: `instance ${streamer.request.instance}: ${message}` });
}

/** One streamer of a slot; that of a killed run is gone as soon as the server has noticed. */
async function lockOut(session: Session, { request, stop }: Streamer): Promise<void> {
  const { clock, slot, instance } = request;
  const giveUpMs = clock.monotonicMs() + 15_000;
  for (;;) {
    const other = await lockAgainst(session, slot);
    if (other === undefined) return;
    if (clock.monotonicMs() > giveUpMs || stop.aborted) {
      throw new PgkitError("locked", `another pgkit wal stream follows ${instance} by the slot ${slot}: ${other.by}`, {
        hint: "one streamer of an instance is enough; end the other, or give this instance a slot of its own",
      });
    }
    await pause(clock, 500, stop);
  }
}
