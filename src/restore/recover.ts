import { rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { isPgkitError } from "../lib/errors.ts";
import { formatLsn, parseLsn } from "../lib/lsn.ts";
import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import type { Programs } from "../postgres/programs.ts";
import { privateFolder, type RunAs } from "../postgres/run-as.ts";
import { type RunningServer, startServer } from "../postgres/server.ts";
import { assertReached, recoveryError } from "./recovery-end.ts";
import { followLog, type LogFollower } from "./recovery-follow.ts";
import type { RecoveryNews } from "./recovery-log.ts";
import type { RecoveryPlan } from "./recovery-plan.ts";
import { endRecovery } from "./recovery-prepare.ts";
import { readControlData, recoveryStartSettings } from "./recovery-start.ts";
import { askPaused, lastReplayedTime } from "./recovery-times.ts";

/** Where the server of a recovery gets its WAL from. */
export interface WalFeed {
  /** What it runs for each file. */
  restoreCommand: string;
  /** Why a file could not be had, when one could not; a file that is not stored is no failure. */
  failure(): unknown;
}

export interface RecoveryRun {
  plan: Pick<RecoveryPlan, "instance" | "backup" | "target" | "action" | "latest" | "walSegments">;
  /** Of the backup's major, with a server. */
  programs: Programs;
  /** As `prepareRecovery` left it, with pg_control in place. */
  dataDir: string;
  runAs: RunAs | undefined;
  /** The restored instance is to archive nothing, also later. */
  noArchive: boolean;
  feed: WalFeed;
  clock: Clock;
  report: Report;
  /** Stops the recovery; it goes on where it was when run again. */
  signal: AbortSignal;
}

/** What recovery came to. */
export interface Reached {
  /** Of the last transaction that is in it, RFC 3339 UTC; `undefined` where the server did not say. */
  time?: string | undefined;
  lsn: string;
  /** The new one after a promotion. */
  timeline: number;
}

export interface Recovered {
  reached: Reached;
  /** With the action `pause`: the server, which waits at the target for whoever connects; the caller stops it. */
  server?: RunningServer;
}

/**
 * Recovers a data directory here, with the server's own programs, and checks that the target was reached. After `promote`
 * the server is stopped cleanly and its directory is one that any server of its major opens; after `shutdown` it is at
 * the target and goes on recovering when it is started; after `pause` it is running. Fails with `target-not-reached`,
 * with what `feed` failed with, or with `tool-failed` and the server's last words.
 */
export async function runRecovery(run: RecoveryRun): Promise<Recovered> {
  const folder = await privateFolder(run.runAs);
  const log = join(folder, "server.log");
  const follower = followLog(log, run);
  let stays = false;
  try {
    const recovered = await recoverIn(folder, log, follower, run);
    stays = recovered.server !== undefined;
    void recovered.server?.ended.then(() => rm(folder, { recursive: true, force: true }));
    return recovered;
  } finally {
    await follower.stop();
    if (!stays) await rm(folder, { recursive: true, force: true });
  }
}

async function recoverIn(folder: string, log: string, follower: LogFollower, run: RecoveryRun): Promise<Recovered> {
  const { plan, programs, dataDir, runAs, noArchive, feed, signal } = run;
  const hotStandby = plan.action === "pause";
  const { restoreCommand } = feed;
  const { segmentBytes } = plan.backup.base;
  const start = { programs, dataDir, runAs, folder, restoreCommand, segmentBytes, hotStandby, noArchive };
  const settings = await recoveryStartSettings(start);
  const server = await startServer({
    ...{ binDir: programs.binDir, dataDir, runAs, settings, log, signal },
    readyWithinMs: 2 ** 31 - 1,
  }).catch(async (error: unknown) => {
    const news = await follower.read();
    if (news.shutDown) return undefined;
    throw signal.aborted ? error : recoveryError(run, news, error);
  });
  if (server === undefined) return { reached: await shutDownAt(run, await follower.read()) };
  try {
    const news = await follower.until(({ complete, paused }) => complete || paused, server.ended);
    if (news.shutDown) {
      await server.stop();
      return { reached: await shutDownAt(run, news) };
    }
    const reached = reachedBy(run, news);
    if (news.paused && !news.complete) return { reached: await pausedAt(reached, server), server };
    await server.stop();
    await endRecovery(dataDir, runAs);
    return { reached };
  } catch (error) {
    await server.stop(signal.aborted ? "fast" : "immediate");
    if ((await follower.read()).complete && isPgkitError(error, "target-not-reached")) await close(dataDir);
    throw error;
  }
}

/** It was promoted short of its target: nobody may take it for whole. */
async function close(dataDir: string): Promise<void> {
  const control = join(dataDir, "global", "pg_control");
  await rename(control, `${control}.not-reached`);
}

function reachedBy(run: RecoveryRun, news: RecoveryNews): Reached {
  if (!news.complete && !news.paused) throw recoveryError(run, news, undefined);
  assertReached(run, news);
  const { base } = run.plan.backup;
  return {
    time: news.time,
    lsn: news.redoDone ?? news.lsn ?? base.stopLsn,
    timeline: news.timeline ?? base.timeline,
  };
}

/** One that waits at its target can be asked. Not cut short: who stops it now is to be told where it was. */
async function pausedAt(reached: Reached, server: RunningServer): Promise<Reached> {
  return { ...reached, ...(await askPaused(server)) };
}

/** A server that was shut down at its target says nothing of where it is: pg_control does. */
async function shutDownAt(run: RecoveryRun, news: RecoveryNews): Promise<Reached> {
  assertReached(run, news);
  const controlData = await readControlData(run.programs, run.dataDir, run.runAs);
  const lsn = controlData.get("Minimum recovery ending location") ?? run.plan.backup.base.stopLsn;
  const { base } = run.plan.backup;
  const timeline = Number(controlData.get("Min recovery ending loc's timeline")) || base.timeline;
  const [endLsn, { segmentBytes }] = [parseLsn(lsn), base];
  const time = news.time ?? (await lastReplayedTime({ dataDir: run.dataDir, segmentBytes, timeline, endLsn, most: 4 }));
  return { time, lsn: formatLsn(endLsn), timeline };
}
