import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { formatLsn } from "../lib/lsn.ts";
import { rfc3339 } from "../lib/time.ts";
import { addressOf, type Connection } from "../postgres/connection.ts";
import { storedBytesOf } from "../repo/files.ts";
import type { BaseFacts } from "../repo/manifest.ts";
import { refreshGuide } from "../repo/repository.ts";
import { baseArchives } from "./base-archives.ts";
import type { BaseRange } from "./base-engine.ts";
import { serverClock } from "./base-facts.ts";
import { assertCanBeIncremental, findParent, type Parent } from "./base-parent.ts";
import { programEngine } from "./base-program.ts";
import { protocolEngine } from "./base-protocol.ts";
import { type BaseServers, switchWal, withServers } from "./base-servers.ts";
import { assertWalWillCome, waitForWal } from "./base-wal.ts";
import type { BackupDependencies, BackupDestination, BackupOutcome } from "./logical.ts";
import { commitTarget, discard, isAlive, newTargets, type Target } from "./target.ts";

export interface BaseBackupRequest {
  instance: string;
  /** Where the instance is; with several hosts, target_session_attrs says which of them sends the backup. */
  connection: Connection;
  /** Sends the backup in the instance's place. */
  standby: Connection | undefined;
  engine: BaseFacts["engine"];
  /** What pg_backup_start is told; `pgkit` and the backup's id where left out. */
  label: string | undefined;
  checkpoint: "fast" | "spread";
  /** Bytes a second that the server sends at most. */
  maxRate: number | undefined;
  /** zstd by the server. */
  level: number;
  workers: number;
  /** Only what has changed since the newest base backup. */
  incremental: boolean;
  /** Stores the WAL from start to stop in the backup, so that it needs no archive. */
  withWal: boolean;
  /** How long no further WAL may come to the repository until the backup fails. */
  walTimeoutMs: number;
}

interface Run extends BaseBackupRequest, BackupDependencies {
  id: string;
  task: string;
  startedAt: Date;
  servers: BaseServers;
  targets: readonly Target[];
  /** The version of the program that took it, where one did. */
  pgBasebackup: string | undefined;
}

/**
 * Takes one base backup into every destination. A repository that fails does not stop the others, and is named in the
 * outcome; the backup exists in none of them unless the server sent all of it and its WAL is there. What fails for all is
 * the failure of each: what the server answers, `page-corrupt`, `wal-missing`, `verification-failed`. Fails as a whole where
 * the server cannot be asked or allows no backup.
 */
export async function backupBase(
  request: BaseBackupRequest,
  destinations: readonly BackupDestination[],
  dependencies: BackupDependencies,
): Promise<BackupOutcome> {
  const { clock } = dependencies;
  return withServers({ ...request, ...dependencies }, async (servers) => {
    if (request.incremental) assertCanBeIncremental(servers.facts, request.instance);
    const startedAt = clock.now();
    const { id, targets } = newTargets({ ...request, clock }, "base", destinations, startedAt);
    const task = `base backup of ${request.instance}`;
    return backup({ ...request, ...dependencies, id, task, startedAt, servers, targets, pgBasebackup: undefined });
  });
}

async function backup(run: Run): Promise<BackupOutcome> {
  const { clock, report, targets, task } = run;
  const startedMs = clock.monotonicMs();
  const outcome: BackupOutcome = { made: [], failures: [] };
  try {
    await prepare(run);
    report({ type: "start", task });
    const parent = run.incremental ? await findParent(targets, run.instance, run.servers.facts) : undefined;
    const base = await receive(run, parent);
    if (!run.withWal) {
      if (base.fromStandby) await switchWal(run.servers, run);
      await eachAlive(targets, (target) => waitFor(run, target, base));
    }
    await eachAlive(targets, (target) => commit(run, target, base, parent, outcome));
  } catch (error) {
    for (const target of targets) target.failure ??= error;
  }
  await Promise.all(targets.filter((target) => !isAlive(target)).map((target) => discard(target, report)));
  run.signal.throwIfAborted();
  for (const { failure, repository } of targets) {
    if (failure !== undefined) outcome.failures.push({ repository: repository.where, error: failure });
  }
  conclude(run, (clock.monotonicMs() - startedMs) / 1000);
  return outcome;
}

/** What a repository lacks ends its part before the server is asked for anything. */
async function prepare({ targets, withWal, servers, instance }: Run): Promise<void> {
  // A standby's WAL is archived by its primary.
  const { facts } = servers.primary ?? servers;
  await eachAlive(targets, async (target) => {
    await refreshGuide(target.repository, { signal: target.signal });
    if (!withWal) await assertWalWillCome(target, facts, instance);
  });
  if (targets.length > 0 && !targets.some(isAlive)) throw targets[0]?.failure;
}

/** Runs `work` for every target that is alive; a failure ends that target's part alone. */
async function eachAlive(targets: readonly Target[], work: (target: Target) => Promise<void>): Promise<void> {
  await Promise.all(
    targets.filter(isAlive).map(async (target) => {
      try {
        await work(target);
      } catch (error) {
        target.failure ??= error;
      }
    }),
  );
}

/** Takes what the server sends, and checks it; gives what the manifest says of it. */
async function receive(run: Run, parent: Parent | undefined): Promise<BaseFacts> {
  const { report, task, servers, signal, withWal, checkpoint, engine } = run;
  const { connection, session, facts } = servers;
  const label = run.label ?? `pgkit ${run.id}`;
  const archives = baseArchives(run.targets);
  const onProgress = (bytes: number, totalBytes: number) => report({ type: "progress", task, bytes, totalBytes });
  const slot = `pgkit_${run.id.toLowerCase().replaceAll(/[^a-z0-9]/g, "_")}`;
  const order = { ...run, connection, label, slot, parentManifest: parent?.manifest, onProgress, signal };
  const range = await (await engineOf(run))(order, archives);
  archives.check();
  const stoppedAt = await serverClock(session);
  assertTimeline(run, range);
  return {
    ...{ timeline: range.timeline, startLsn: formatLsn(range.startLsn), stopLsn: formatLsn(range.stopLsn), stoppedAt },
    segmentBytes: facts.segmentBytes,
    ...{ walIncluded: withWal, engine, fromStandby: facts.server.inRecovery, label, checkpoint },
    ...{ dataChecksums: facts.dataChecksums, sizeBytes: range.sizeBytes },
    ...{ tablespaces: facts.tablespaces, databases: facts.databases },
  };
}

async function engineOf(run: Run) {
  if (run.engine === "protocol") return protocolEngine;
  const programs = await run.programsFor(run.servers.facts.server.major);
  run.pgBasebackup = programs.version;
  return programEngine(programs, run.servers.session);
}

/** A standby learns of its timeline only as it replays it. */
function assertTimeline({ servers: { facts, connection } }: Run, { timeline }: BaseRange): void {
  if (facts.server.inRecovery || timeline === facts.timeline) return;
  const message = `${addressOf(connection)} was on timeline ${facts.timeline}, and the backup is of timeline ${timeline}`;
  throw new PgkitError("postgres-failed", message, { hint: "another server took its place; take the backup again" });
}

async function waitFor(run: Run, { repository, signal }: Target, base: BaseFacts): Promise<void> {
  const lineage = { instance: run.instance, systemId: run.servers.facts.server.systemId };
  await waitForWal(repository, { ...base, lineage }, { clock: run.clock, timeoutMs: run.walTimeoutMs, signal });
}

async function commit(
  run: Run,
  target: Target,
  base: BaseFacts,
  parent: Parent | undefined,
  outcome: BackupOutcome,
): Promise<void> {
  const { version, systemId } = run.servers.facts.server;
  const { pgBasebackup, pgkitVersion: pgkit } = run;
  const facts = {
    ...{ id: run.id, kind: "base" as const, instance: run.instance, startedAt: rfc3339(run.startedAt), base },
    ...(parent === undefined ? {} : { parent: parent.id }),
    server: { version, systemId },
    tools: { pgkit, ...(pgBasebackup === undefined ? {} : { pgBasebackup }) },
  };
  const manifest = await commitTarget(target, facts, run.clock);
  if (manifest !== undefined) outcome.made.push({ repository: target.repository.where, manifest });
}

function conclude({ targets, task, report }: Run, seconds: number): void {
  const whole = targets.find(isAlive);
  const failed = targets.find((target) => !isAlive(target));
  if (whole !== undefined) report({ type: "done", task, bytes: storedBytesOf(whole.files), seconds });
  if (failed === undefined) return;
  const { failure } = failed;
  const message = failure instanceof Error ? failure.message : String(failure);
  report({ type: "failed", task, message, hint: isPgkitError(failure) ? failure.hint : undefined });
}
