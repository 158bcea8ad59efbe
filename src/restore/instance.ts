import { stat } from "node:fs/promises";
import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import type { Programs } from "../postgres/programs.ts";
import { type RunAs, unprivilegedUser } from "../postgres/run-as.ts";
import type { RunningServer } from "../postgres/server.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import { type RestoredFiles, restoreClusterFiles } from "./cluster.ts";
import { type Reached, runRecovery } from "./recover.ts";
import { withWalFeed } from "./recovery-feed.ts";
import type { RecoveryPlan } from "./recovery-plan.ts";
import { prepareRecovery } from "./recovery-prepare.ts";
import { recoveryGoesOn } from "./recovery-resume.ts";
import { recoverySettings } from "./recovery-settings.ts";
import { assertSpace } from "./recovery-space.ts";
import { lastRecordOf } from "./recovery-stop.ts";

export interface InstanceRestore {
  repository: RepositoryReader;
  plan: RecoveryPlan;
  /** Absolute. */
  dataDir: string;
  /** Where tablespaces go, by their oids. */
  tablespaces: ReadonlyMap<number, string>;
  delta: boolean;
  /** Of the backup's major; needed for `start`, and to put an incremental backup together. */
  programs: Programs | undefined;
  /** Recover here and now, rather than when a server is started on the directory. */
  start: boolean;
  /** For a server that is started later, by whomever. */
  restoreCommand: string;
  noArchive: boolean;
  jobs: number;
  /** With the action `pause`: told of the server that waits at its target, which is stopped when this resolves. */
  whilePaused: (server: RunningServer, reached: Reached) => Promise<void>;
  clock: Clock;
  report: Report;
  signal: AbortSignal;
}

export interface RestoredInstance {
  files: RestoredFiles;
  /** `undefined`: recovery begins when a server is started on the directory. */
  reached: Reached | undefined;
}

/**
 * Restores an instance into a data directory as planned, and with `start` recovers it there; where that was cut, it goes on
 * by the same request. Whose the files are: of the owner of a directory that is there, else, where we are root, of the
 * account that can run servers.
 */
export async function restoreInstance(request: InstanceRestore): Promise<RestoredInstance> {
  const { plan, dataDir, tablespaces, delta, programs, report, clock, signal, repository } = request;
  const runAs = await ownerFor(dataDir);
  const settings = async () => {
    const lastRecord = await lastRecordOf({ repository, plan, dataDir, signal });
    return { ...request, lastRecord };
  };
  const goesOn =
    !delta && (await recoveryGoesOn({ ...request, runAs, settings: async () => recoverySettings(await settings()) }));
  if (goesOn && programs !== undefined) {
    return { files: { files: 0, writtenBytes: 0, keptFiles: 0 }, reached: await recover(request, programs, runAs) };
  }
  const places = plan.backup.base.tablespaces.map(({ oid, location }) => tablespaces.get(oid) ?? location);
  const outside = places.filter((place) => place.startsWith("/"));
  // A chain is put together beside what is there.
  if (!delta || plan.chain.length > 1) await assertSpace([dataDir, ...outside], plan.restoredBytes);
  const files = await restoreClusterFiles({
    ...{ repository, chain: plan.chain, dataDir, tablespaces, delta, runAs, jobs: request.jobs, programs },
    ...{ clock, report, signal },
    beforeControl: async () => await prepareRecovery(dataDir, await settings(), runAs),
  });
  if (!request.start || programs === undefined) return { files, reached: undefined };
  return { files, reached: await recover(request, programs, runAs) };
}

async function recover(request: InstanceRestore, programs: Programs, runAs: RunAs | undefined): Promise<Reached> {
  const { repository, plan, dataDir, jobs: parallel, noArchive, clock, report, signal } = request;
  return withWalFeed({ repository, plan, dataDir, runAs, parallel, clock, report, signal }, async (feed) => {
    const run = { plan, programs, dataDir, runAs, noArchive, feed, clock, report, signal };
    const { reached, server } = await runRecovery(run);
    if (server === undefined) return reached;
    try {
      // Who has it go on needs WAL and timelines still.
      await request.whilePaused(server, reached);
    } finally {
      await server.stop();
    }
    return reached;
  });
}

async function ownerFor(dataDir: string): Promise<RunAs | undefined> {
  const runAs = await unprivilegedUser();
  const found = runAs && (await unlessAbsent(stat(dataDir)));
  return found === undefined || found.uid === 0 ? runAs : { uid: found.uid, gid: found.gid };
}
