import { PgkitError } from "../lib/errors.ts";
import { formatLsn, type Lsn } from "../lib/lsn.ts";
import { formatBytes } from "../lib/parse.ts";
import { rfc3339 } from "../lib/time.ts";
import type { Session } from "../postgres/session.ts";
import { advanceSlot, readSlot } from "../postgres/slot.ts";
import { type FollowedServer, followedServer } from "../postgres/slot-server.ts";
import type { Stream, Streamer } from "./stream-context.ts";
import { collectCompleted, waitingFiles } from "./stream-folder.ts";
import { lagLevel, lagSeconds } from "./stream-lag.ts";
import { mayPass, pause } from "./stream-retry.ts";
import { roomError } from "./stream-room.ts";
import { sayFine, sayTrouble } from "./stream-say.ts";
import { type StreamState, type StreamStatus, writeStreamStatus } from "./stream-status.ts";

/** An answer that takes longer comes from a server that is gone without a word. */
const answerWithinMs = 30_000;

/**
 * Asks the server where it is, lets it remove what is stored, and says so when too much is not. Fails with
 * `postgres-unreachable` when it does not answer, with `slot-lost` when the slot was dropped or has lost its WAL.
 */
export async function lookAtServer(streamer: Streamer, stream: Stream, session: Session): Promise<FollowedServer> {
  const { request } = streamer;
  const server = await inTime(followedServer(session), streamer);
  const slot = await inTime(readSlot(session, request.slot), streamer);
  if (server.timeline !== streamer.timeline) {
    // The connection followed a switch that this server made itself, by a promotion.
    throw new PgkitError("postgres-unreachable", `the server went on to timeline ${server.timeline}`, {
      hint: "its history is read anew",
    });
  }
  if (slot?.restartLsn === undefined || slot.walStatus === "lost") {
    const what =
      slot === undefined
        ? "was dropped"
        : "has lost WAL that it was to keep (max_slot_wal_keep_size, idle_replication_slot_timeout)";
    // It is made anew by the next connection.
    throw new PgkitError("postgres-failed", `the replication slot ${request.slot} ${what}`, {
      hint: "give the server more room for WAL, or the repository a faster way",
    });
  }
  const stored = storedLsn(stream);
  const target = stored === undefined || stored < slot.restartLsn ? slot.restartLsn : stored;
  // Also where it stays: since 18 a server may invalidate slots that nobody used for long.
  await inTime(advanceSlot(session, request.slot, target < server.flushLsn ? target : server.flushLsn), streamer);
  await stream.folder.exclusive(() => collectCompleted(stream.folder));
  streamer.serverLsn = server.flushLsn;
  streamer.retainedBytes = Number(server.flushLsn > target ? server.flushLsn - target : 0n);
  await tellHowItIs(streamer);
  return server;
}

/** Writes the status every few seconds, in every state, and says so when too much is not stored. Ends with the run. */
export async function heartbeat(streamer: Streamer): Promise<void> {
  const { request, stop } = streamer;
  while (!stop.aborted) {
    await tellHowItIs(streamer);
    await pause(request.clock, Math.min(request.flushEveryMs, 5_000), stop);
  }
}

async function tellHowItIs(streamer: Streamer): Promise<void> {
  const { serverLsn, stream, request } = streamer;
  if (stream !== undefined) streamer.waitingSegments = (await waitingFiles(stream.folder)).length;
  if (serverLsn !== undefined && stream !== undefined) {
    streamer.lagSeconds = lagSeconds(streamer.lag, serverLsn, storedLsn(stream), request.clock.monotonicMs());
    sayLevel(streamer);
  }
  await streamer.telling(() => saveStatus(streamer));
}

/** The position up to which every repository has everything, as far as this run knows. */
export function storedLsn({ destinations }: Stream): Lsn | undefined {
  let least: Lsn | undefined;
  for (const { position } of destinations) {
    if (position === undefined) return undefined;
    if (least === undefined || position.lsn < least) least = position.lsn;
  }
  return least;
}

/** Says a change of state, and only a change. */
export function enterState(streamer: Streamer, state: StreamState, what?: string): void {
  if (streamer.state === state) return;
  const { request } = streamer;
  streamer.state = state;
  streamer.since = request.clock.now();
  if (state === "disconnected") return;
  const message = `wal stream ${request.instance}: ${state}${what === undefined ? "" : ` (${what})`}`;
  request.report({ type: "note", message });
}

export async function saveStatus(streamer: Streamer): Promise<void> {
  const { request, stream, serverLsn } = streamer;
  const stored = stream && storedLsn(stream);
  const received = stream?.destinations.map(({ tail, position }) => {
    const start = position === undefined ? 0n : position.lsn - (position.lsn % BigInt(tail.bytes.length));
    return start + BigInt(tail.recordEnd);
  });
  const { host, pid } = request.lease.holder;
  const { streamFolder } = request;
  const status: StreamStatus = {
    ...{ format: 1, instance: request.instance, systemId: stream?.lineage.systemId, slot: request.slot },
    ...{ state: streamer.state, since: rfc3339(streamer.since), timeline: streamer.timeline },
    serverLsn: text(serverLsn),
    receivedLsn: stored === undefined ? undefined : text(received?.reduce((a, b) => (b > a ? b : a))),
    storedLsn: text(stored),
    lagBytes: lagBytes(serverLsn, stored),
    ...{ lagSeconds: streamer.lagSeconds, retainedBytes: streamer.retainedBytes },
    waitingSegments: streamer.waitingSegments,
    troubles: [...streamer.troubles].map(([where, { message, since }]) => ({ where, message, since: rfc3339(since) })),
    baseBackupNeeded: stream?.losses.baseBackupDue ?? false,
    ...{ host, pid, updatedAt: rfc3339(request.clock.now()) },
  };
  try {
    await writeStreamStatus(streamFolder, status);
    sayFine(streamer, streamFolder);
  } catch (cause) {
    const error = roomError(cause, streamFolder);
    if (!mayPass(error)) throw error;
    // Who watches sees that it is old. Storing goes on, and makes room.
    sayTrouble(streamer, streamFolder, error);
  }
}

function lagBytes(server: Lsn | undefined, stored: Lsn | undefined): number | undefined {
  if (server === undefined || stored === undefined) return undefined;
  return Number(server > stored ? server - stored : 0n);
}

function text(lsn: Lsn | undefined): string | undefined {
  return lsn === undefined ? undefined : formatLsn(lsn);
}

function sayLevel(streamer: Streamer): void {
  const { request, retainedBytes = 0, lagSeconds: seconds = 0 } = streamer;
  const level = lagLevel(retainedBytes, seconds, request);
  if (level === streamer.level) return;
  const { level: before } = streamer;
  streamer.level = level;
  const facts = `${formatBytes(retainedBytes)} of WAL on the server of ${request.instance} are not stored, the oldest for ${seconds} s`;
  if (level === "fine") {
    request.report({ type: "note", message: `wal stream ${request.instance}: back to normal` });
    return;
  }
  if (level === "warn") {
    const hint = "is the repository reachable, and fast enough?";
    if (before === "fine") request.report({ type: "warning", message: facts, hint });
    return;
  }
  const message = `ALERT: ${facts}`;
  const hint =
    request.onFull === "gap"
      ? `at ${formatBytes(request.alertBytes)} the slot is dropped (onFull: gap)`
      : "the server keeps all of it until its disk is full; make the repository work, or see archive.onFull";
  request.report({ type: "warning", message, hint });
}

async function inTime<T>(answer: Promise<T>, { request }: Streamer): Promise<T> {
  const answered = new AbortController();
  const late = request.clock.delay(answerWithinMs, answered.signal).then(() => {
    throw new PgkitError(
      "postgres-unreachable",
      `the server of ${request.instance} does not answer within ${answerWithinMs / 1000} s`,
      {
        hint: "is it overloaded, or the network between cut?",
      },
    );
  });
  // Told by `race`, or nobody waits for it any more.
  late.catch(() => undefined);
  answer.catch(() => undefined);
  try {
    return await Promise.race([answer, late]);
  } finally {
    answered.abort();
  }
}
