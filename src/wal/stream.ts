import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import pLimit from "p-limit";
import { PgkitError } from "../lib/errors.ts";
import { formatLsn } from "../lib/lsn.ts";
import { advanceSlot, readSlot } from "../postgres/slot.ts";
import { type FollowedServer, openPrimary } from "../postgres/slot-server.ts";
import type { Repository } from "../repo/repository.ts";
import { createLineage, type LineageFacts, listLineages, readLineage } from "../repo/wal.ts";
import { takeDueBaseBackup } from "./stream-backup.ts";
import type { Stream, Streamer, StreamRequest } from "./stream-context.ts";
import { openStreamFolder, segmentUnderWay, systemsIn, waitingFiles } from "./stream-folder.ts";
import { followServer } from "./stream-follow.ts";
import { readLosses } from "./stream-loss.ts";
import { enterState, heartbeat, saveStatus, storedLsn } from "./stream-monitor.ts";
import { pumpInto } from "./stream-pump.ts";
import { mayPass, untilItWorks } from "./stream-retry.ts";
import { sayFine, sayTrouble } from "./stream-say.ts";
import { newTail } from "./stream-tail.ts";

export interface StreamOutcome {
  systemId: string | undefined;
  storedLsn: string | undefined;
  /** False: the repository did not take the rest when the run was stopped; the slot keeps it on the server. */
  allStored: boolean;
}

/**
 * Follows the server and stores its WAL in every repository until `stop`, then stores the rest and gives how far it came.
 * What passes by itself (a server or a repository that is down) is waited for. Fails with `locked`, `system-mismatch`,
 * `server-settings`, `postgres-denied`, `refused-overwrite` or `wal-conflict`. See `docs/decisions/0027`.
 */
export async function streamWal(request: StreamRequest, stop: AbortSignal): Promise<StreamOutcome> {
  const failed = new AbortController();
  const ending = AbortSignal.any([stop, failed.signal]);
  const streamer = await newStreamer(request, ending);
  const pumpsEnd = new AbortController();
  const pumps: Promise<boolean>[] = [];
  const startPumps = (stream: Stream) => {
    for (const destination of stream.destinations) {
      const pump = pumpInto(streamer, stream, destination, pumpsEnd.signal);
      pump.catch((error: unknown) => failed.abort(error));
      pumps.push(pump);
    }
  };
  try {
    const beside = Promise.all([heartbeat(streamer), takeDueBaseBackup(streamer)]);
    beside.catch((error: unknown) => failed.abort(error));
    await openRepositories(streamer);
    if (!ending.aborted) await storeLeftovers(streamer);
    await followServer(streamer, async (server) => {
      if (streamer.stream !== undefined) return assertSameSystem(streamer.stream, server, request);
      const stream = await openStream(streamer, server);
      streamer.stream = stream;
      startPumps(stream);
      return stream;
    });
    await beside;
  } catch (error) {
    if (!ending.aborted) failed.abort(error);
  } finally {
    pumpsEnd.abort();
  }
  const ends = await Promise.allSettled(pumps);
  if (failed.signal.aborted) throw failed.signal.reason;
  const allStored = ends.every((end) => end.status === "fulfilled" && end.value);
  return await conclude(streamer, allStored);
}

async function newStreamer(request: StreamRequest, stop: AbortSignal): Promise<Streamer> {
  await mkdir(request.streamFolder, { recursive: true, mode: 0o700 }).catch((cause: NodeJS.ErrnoException) => {
    throw new PgkitError("config", `the folder ${request.streamFolder} cannot be made: ${cause.message}`, {
      hint: "name one that pgkit's user may write to by archive.streamFolder",
      cause,
    });
  });
  const streamer: Streamer = {
    ...{ request, stop, repositories: [], stream: undefined, state: "starting", since: request.clock.now() },
    ...{ troubles: new Map(), timeline: undefined, serverLsn: undefined, retainedBytes: undefined },
    ...{ lag: { samples: [] }, lagSeconds: undefined, level: "fine", waitingSegments: 0, telling: pLimit(1) },
  };
  await saveStatus(streamer);
  return streamer;
}

/** All of them, or until the run is stopped. The status is told meanwhile: who waits for a store is not dead. */
async function openRepositories(streamer: Streamer): Promise<void> {
  const { request, stop, repositories } = streamer;
  for (const { where, open } of request.repositories) {
    const say = (error: unknown) => sayTrouble(streamer, where, error);
    const { clock } = request;
    const opened = await untilItWorks(open, { clock, signal: stop, say }).catch((error: unknown) => {
      if (!stop.aborted) throw error;
    });
    if (opened === undefined) break;
    sayFine(streamer, where);
    repositories.push(opened);
  }
}

/** What an earlier run had received and not stored; the server may not have it any more, or be gone. */
async function storeLeftovers(streamer: Streamer): Promise<void> {
  const { request, repositories } = streamer;
  const allReceived = AbortSignal.abort();
  for (const systemId of await systemsIn(request.streamFolder)) {
    const lineage = { instance: request.instance, systemId };
    const facts = repositories[0] && (await reading(streamer, repositories[0], (one) => readLineage(one, lineage)));
    if (facts === undefined) continue;
    const stream = await streamFor(streamer, facts);
    const waiting = (await waitingFiles(stream.folder)).length;
    if (waiting === 0 && (await segmentUnderWay(stream.folder)) === undefined) continue;
    await Promise.all(stream.destinations.map((destination) => pumpInto(streamer, stream, destination, allReceived)));
  }
}

/** The lineage of this server in every repository, made where there is none of the instance yet. */
async function openStream(streamer: Streamer, server: FollowedServer): Promise<Stream> {
  const { request, repositories } = streamer;
  const { instance } = request;
  const { systemId, segmentBytes, version: serverVersion } = server;
  for (const repository of repositories) {
    const there = await listLineages(repository, instance);
    const others = there.filter((one) => one.systemId !== systemId).map((one) => one.systemId);
    if (others.length > 0 && others.length === there.length) {
      const message = `the server of ${instance} is system ${systemId}; ${repository.where} has WAL of ${others.join(", ")} under this name`;
      throw new PgkitError("system-mismatch", message, {
        hint: "was it made anew or upgraded? pgkit pitr enable --new-lineage keeps both; else check the instance's url",
      });
    }
    await createLineage(repository, { instance, systemId, segmentBytes, serverVersion }, request.clock);
  }
  return await streamFor(streamer, { instance, systemId, segmentBytes });
}

async function streamFor(
  { request, repositories }: Streamer,
  { instance, systemId, segmentBytes }: Pick<LineageFacts, "instance" | "systemId" | "segmentBytes">,
): Promise<Stream> {
  const lineage = { instance, systemId };
  const folder = await openStreamFolder(request.streamFolder, systemId, segmentBytes);
  const destinations = repositories.map((repository) => ({
    ...{ repository, lineage, position: undefined, stored: new Set<string>() },
    ...{ tail: newTail(segmentBytes), flushed: undefined, holdsLease: false },
  }));
  return { lineage, folder, destinations, losses: await readLosses(join(request.streamFolder, systemId)) };
}

function assertSameSystem(stream: Stream, { systemId }: FollowedServer, { instance }: StreamRequest): Stream {
  if (stream.lineage.systemId === systemId) return stream;
  const message = `the server of ${instance} is system ${systemId} now, and was ${stream.lineage.systemId} until its connection ended`;
  throw new PgkitError("system-mismatch", message, {
    hint: "was it made anew or upgraded? then pgkit pitr enable --new-lineage",
  });
}

async function reading<T>(
  streamer: Streamer,
  repository: Repository,
  read: (repository: Repository) => Promise<T>,
): Promise<T> {
  const say = (error: unknown) => sayTrouble(streamer, repository.where, error);
  const { clock } = streamer.request;
  return await untilItWorks(() => read(repository), { clock, signal: streamer.stop, say });
}

/** The slot is moved once more, so that the server need not keep what the last flush stored. */
async function conclude(streamer: Streamer, allStored: boolean): Promise<StreamOutcome> {
  const { request, stream } = streamer;
  const stored = stream && storedLsn(stream);
  if (stored !== undefined) await releaseSlot(request, stored).catch(ignorePassing);
  enterState(streamer, "stopped");
  await saveStatus(streamer);
  const storedText = stored === undefined ? undefined : formatLsn(stored);
  return { systemId: stream?.lineage.systemId, storedLsn: storedText, allStored };
}

async function releaseSlot({ connection, slot }: StreamRequest, stored: bigint): Promise<void> {
  const { session } = await openPrimary(connection, { applicationName: "pgkit wal stream" });
  try {
    const restartLsn = (await readSlot(session, slot))?.restartLsn;
    if (restartLsn !== undefined && restartLsn < stored) await advanceSlot(session, slot, stored);
  } finally {
    await session.close();
  }
}

/** The server then keeps a little more than it must until the next run. */
function ignorePassing(error: unknown): void {
  if (!mayPass(error)) throw error;
}
