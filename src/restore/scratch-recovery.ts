import { chown, mkdir, unlink } from "node:fs/promises";
import { join } from "node:path";
import { isPgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import { removeOwnedScratch } from "../lib/scratch-folder.ts";
import type { Clock } from "../lib/time.ts";
import type { Connection } from "../postgres/connection.ts";
import type { Programs } from "../postgres/programs.ts";
import { type RunAs, unprivilegedUser, writePrivateFile } from "../postgres/run-as.ts";
import { scratchServerFolder } from "../postgres/scratch-server.ts";
import { type RunningServer, startServer } from "../postgres/server.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import { type Prefetcher, prefetcher } from "../wal/prefetch.ts";
import { spoolRestoreCommand } from "../wal/prefetch-command.ts";
import { restoreClusterFiles } from "./cluster.ts";
import type { NeededFiles } from "./database-files.ts";
import { missedRelations } from "./invalid-pages.ts";
import type { Reached } from "./recover.ts";
import { assertReached, recoveryError } from "./recovery-end.ts";
import { fetchForPlan } from "./recovery-feed.ts";
import { followLog, type LogFollower } from "./recovery-follow.ts";
import type { RecoveryPlan } from "./recovery-plan.ts";
import { lastRecordOf } from "./recovery-stop.ts";
import { installedLibraries, writeScratchConfiguration } from "./scratch-settings.ts";

export interface ScratchRecovery {
  repository: RepositoryReader;
  /** Its action must be to promote. */
  plan: RecoveryPlan;
  /** Of the backup's major, with a server. */
  programs: Programs;
  files: NeededFiles;
  /** shared_preload_libraries of the server that was backed up. */
  libraries: readonly string[];
  /** Where the scratch folder is made. */
  parent: string;
  jobs: number;
  clock: Clock;
  report: Report;
  signal: AbortSignal;
}

export interface RecoveredServer {
  /** Without a user: who may log in depends on the cluster. Every role may, without a password. */
  connection: Omit<Connection, "user">;
  /** Private to this process; removed with the server. */
  folder: string;
  reached: Reached;
  /** Of the base backup. */
  writtenBytes: number;
  walFiles: number;
  /** Relations that should have been whole and were not: what is in the server cannot be trusted. */
  missed: string[];
}

/**
 * Recovers a base backup to the plan's target in a scratch server on this machine and runs `use` with it, open for reading
 * and writing. Server and files are removed afterwards; after a kill the server ends by itself, and the next run removes
 * the files. Fails as `restoreClusterFiles` and `runRecovery` do.
 */
export async function withRecoveredServer<Result>(
  recovery: ScratchRecovery,
  use: (server: RecoveredServer) => Promise<Result>,
): Promise<Result> {
  const runAs = await unprivilegedUser();
  const folder = await scratchServerFolder(recovery.parent);
  try {
    const places = await makePlaces(folder, recovery.plan, runAs);
    const { writtenBytes } = await restoreFiles(recovery, places, runAs);
    const feed = await startFeed(recovery, places, runAs);
    try {
      const { server, reached } = await recover(recovery, places, feed, runAs);
      try {
        await feed.stop();
        const missed = await missedRelations(places.log, new Set(recovery.files.left.map(({ oid }) => oid)));
        const walFiles = feed.fetched.files;
        return await use({ connection: connectionTo(server), folder, reached, writtenBytes, walFiles, missed });
      } finally {
        await server.stop("immediate");
      }
    } finally {
      await feed.stop();
    }
  } finally {
    await removeOwnedScratch(folder);
  }
}

interface Places {
  folder: string;
  dataDir: string;
  tablespaces: Map<number, string>;
  wal: string;
  conf: string;
  log: string;
}

async function makePlaces(folder: string, { backup }: RecoveryPlan, runAs: RunAs | undefined): Promise<Places> {
  const places = { dataDir: join(folder, "data"), wal: join(folder, "wal"), conf: join(folder, "conf") };
  for (const dir of Object.values(places)) await makeFolder(dir, runAs);
  const tablespaces = new Map<number, string>();
  for (const { oid, location } of backup.base.tablespaces) {
    // Those in place are folders of the data directory.
    if (location.startsWith("/")) tablespaces.set(oid, join(folder, `tablespace-${oid}`));
  }
  return { ...places, folder, tablespaces, log: join(places.conf, "log") };
}

async function makeFolder(dir: string, runAs: RunAs | undefined): Promise<void> {
  await mkdir(dir, { mode: 0o700 });
  if (runAs !== undefined) await chown(dir, runAs.uid, runAs.gid);
}

async function restoreFiles(recovery: ScratchRecovery, places: Places, runAs: RunAs | undefined) {
  const { repository, plan, files, programs, jobs, clock, report, signal } = recovery;
  const { dataDir, tablespaces } = places;
  return restoreClusterFiles({
    ...{
      repository,
      chain: plan.chain,
      dataDir,
      tablespaces,
      delta: false,
      runAs,
      jobs,
      programs,
      clock,
      report,
      signal,
    },
    ...(files.left.length === 0 ? {} : { wants: files.wants }),
    beforeControl: async () => {
      // What ALTER SYSTEM set there would stand over our configuration.
      for (const name of ["postgresql.auto.conf", "standby.signal", "recovery.signal"]) {
        await unlessAbsent(unlink(join(dataDir, name)));
      }
      await writePrivateFile(join(dataDir, "postgresql.auto.conf"), "", runAs);
      await writePrivateFile(join(dataDir, "recovery.signal"), "", runAs);
    },
  });
}

async function startFeed(
  { repository, plan, clock, report, signal }: ScratchRecovery,
  { wal, dataDir }: Places,
  runAs: RunAs | undefined,
): Promise<Prefetcher> {
  return prefetcher({
    fetch: (name, ending) => fetchForPlan({ repository, plan }, name, ending),
    ...{ folder: wal, walDir: join(dataDir, "pg_wal"), path: plan.wal },
    ...{ segmentBytes: plan.backup.base.segmentBytes, parallel: 4, ahead: 8, takesBack: true },
    ...{ owner: runAs, clock, report, signal },
  });
}

async function recover(
  recovery: ScratchRecovery,
  places: Places,
  feed: Prefetcher,
  runAs: RunAs | undefined,
): Promise<{ server: RunningServer; reached: Reached }> {
  const { repository, plan, programs, clock, report, signal } = recovery;
  const { dataDir, conf, wal, log, folder } = places;
  const restoreCommand = spoolRestoreCommand(wal);
  const lastRecord = await lastRecordOf({ repository, plan, dataDir, signal });
  const settings = await writeScratchConfiguration({
    ...{ programs, dataDir, folder: conf, runAs, recovery: { plan, restoreCommand, lastRecord } },
    libraries: await librariesFor(recovery),
    partial: recovery.files.left.length > 0,
  });
  const run = {
    ...{ plan, programs, dataDir, runAs, clock, report, signal },
    feed: { restoreCommand, failure: () => feed.failure },
    noArchive: true,
  };
  const follower = followLog(log, run);
  let server: RunningServer | undefined;
  try {
    server = await startServer({
      ...{ binDir: programs.binDir, dataDir, runAs, settings, log, signal, socketParent: folder },
      readyWithinMs: 2 ** 31 - 1,
    });
    const news = await follower.until(({ complete }) => complete, server.ended);
    if (!news.complete) throw recoveryError(run, news, undefined);
    assertReached(run, news);
    const { base } = plan.backup;
    const [lsn, timeline] = [news.redoDone ?? news.lsn ?? base.stopLsn, news.timeline ?? base.timeline];
    return { server, reached: { time: news.time, lsn, timeline } };
  } catch (error) {
    await server?.stop("immediate");
    throw await why(error, run, follower);
  } finally {
    await follower.stop();
  }
}

async function why(error: unknown, run: Parameters<typeof recoveryError>[0], follower: LogFollower): Promise<unknown> {
  if (run.signal.aborted || !isPgkitError(error, "tool-failed")) return error;
  return recoveryError(run, await follower.read(), error);
}

/** A library that is not here would keep the server from starting; most are of no use to who only reads tables. */
async function librariesFor({ programs, libraries, report }: ScratchRecovery): Promise<string[]> {
  const { here, missing } = await installedLibraries(programs, libraries);
  if (missing.length > 0) {
    report({
      type: "warning",
      message: `the scratch server does without ${missing.join(", ")}, which the instance loads at its start and which is not installed here`,
      hint: "if the restore fails for that, install it on this machine",
    });
  }
  return here;
}

function connectionTo({ socketDir, port }: RunningServer): Omit<Connection, "user"> {
  return {
    hosts: [{ host: socketDir, port }],
    password: undefined,
    database: "postgres",
    sslMode: "disable",
    parameters: {},
  };
}
