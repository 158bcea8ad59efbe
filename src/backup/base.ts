import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { formatLsn } from "../lib/lsn.ts";
import { rfc3339 } from "../lib/time.ts";
import { addressOf, type Connection } from "../postgres/connection.ts";
import { type Replication, withReplication } from "../postgres/replication.ts";
import { receiveBaseBackup } from "../postgres/replication-base.ts";
import { type Session, withSession } from "../postgres/session.ts";
import { storedBytesOf } from "../repo/files.ts";
import type { BaseFacts } from "../repo/manifest.ts";
import { refreshGuide } from "../repo/repository.ts";
import { assertCanBackup, type InstanceFacts, instanceFacts, serverClock } from "./base-facts.ts";
import { type BaseRange, baseArchives } from "./base-source.ts";
import { assertWalWillCome, waitForWal } from "./base-wal.ts";
import type { BackupDependencies, BackupDestination, BackupOutcome } from "./logical.ts";
import { commitTarget, discard, isAlive, newTargets, type Target } from "./target.ts";

export interface BaseBackupRequest {
  instance: string;
  /** The server that is backed up, or a standby of it. */
  connection: Connection;
  /** What pg_backup_start is told; the backup's id where left out. */
  label: string | undefined;
  checkpoint: "fast" | "spread";
  /** Bytes a second that the server sends at most. */
  maxRate: number | undefined;
  /** zstd by the server. */
  level: number;
  workers: number;
  /** Stores the WAL from start to stop in the backup, so that it needs no archive. */
  withWal: boolean;
  /** How long no further WAL may come to the repository until the backup fails. */
  walTimeoutMs: number;
}

export type BaseBackupDependencies = Omit<BackupDependencies, "programsFor">;

interface Run extends BaseBackupRequest, BaseBackupDependencies {
  id: string;
  task: string;
  startedAt: Date;
  facts: InstanceFacts;
  targets: readonly Target[];
}

/**
 * Takes one base backup into every destination. A repository that fails does not stop the others, and is named in the
 * outcome; the backup exists in none of them unless the server sent all of it and its WAL is there. Fails as a whole with
 * what the server answers, `page-corrupt`, `server-settings`, `wal-missing` or `verification-failed`.
 */
export async function backupBase(
  request: BaseBackupRequest,
  destinations: readonly BackupDestination[],
  dependencies: BaseBackupDependencies,
): Promise<BackupOutcome> {
  const { connection } = request;
  const { signal, clock } = dependencies;
  return withSession(connection, { signal }, async (session) => {
    const facts = await instanceFacts(session);
    assertCanBackup(facts, request.instance);
    return withReplication(connection, { signal }, async (replication) => {
      const startedAt = clock.now();
      const { id, targets } = newTargets({ ...request, clock }, "base", destinations, startedAt);
      const task = `base backup of ${request.instance}`;
      const run: Run = { ...request, ...dependencies, id, task, startedAt, facts, targets };
      return backup(run, session, replication);
    });
  });
}

async function backup(run: Run, session: Session, replication: Replication): Promise<BackupOutcome> {
  const { clock, report, targets, task } = run;
  const startedMs = clock.monotonicMs();
  const outcome: BackupOutcome = { made: [], failures: [] };
  try {
    await eachAlive(targets, ({ repository, signal }) => refreshGuide(repository, { signal }));
    if (!run.withWal) await eachAlive(targets, (target) => assertWalWillCome(target, run.facts, run.instance));
    assertSomeAlive(targets);
    report({ type: "start", task });
    const base = await receive(run, session, replication);
    if (!run.withWal) await eachAlive(targets, (target) => waitFor(run, target, base));
    await eachAlive(targets, (target) => commit(run, target, base, outcome));
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

function assertSomeAlive(targets: readonly Target[]): void {
  if (targets.length > 0 && !targets.some(isAlive)) throw targets[0]?.failure;
}

/** Takes what the server sends; gives what the manifest says of it. */
async function receive(run: Run, session: Session, replication: Replication): Promise<BaseFacts> {
  const { facts, report, task, withWal, checkpoint } = run;
  const label = run.label ?? `pgkit ${run.id}`;
  const archives = baseArchives(run.targets);
  let range: Omit<BaseRange, "stopLsn"> | undefined;
  let totalBytes = 0;
  const stop = await receiveBaseBackup(
    replication,
    { ...run, label, wal: withWal, compression: run },
    {
      onStart: (start) => {
        range = start;
        totalBytes = start.expectedBytes;
        report({ type: "progress", task, bytes: 0, totalBytes });
      },
      onProgress: (bytes) => report({ type: "progress", task, bytes, totalBytes: Math.max(totalBytes, bytes) }),
      onArchive: ({ name, content }) => archives.take(name, content),
    },
  );
  archives.check();
  const stoppedAt = await serverClock(session);
  if (range === undefined || range.timeline !== stop.timeline)
    throw changedTimeline(run, range?.timeline, stop.timeline);
  return {
    ...{ timeline: stop.timeline, startLsn: formatLsn(range.startLsn), stopLsn: formatLsn(stop.stopLsn), stoppedAt },
    segmentBytes: facts.segmentBytes,
    ...{ walIncluded: withWal, engine: "protocol", fromStandby: facts.server.inRecovery, label, checkpoint },
    dataChecksums: facts.dataChecksums,
    sizeBytes: totalBytes,
    ...{ tablespaces: facts.tablespaces, databases: facts.databases },
  };
}

function changedTimeline({ connection }: Run, from: number | undefined, to: number): PgkitError {
  const message = `${addressOf(connection)} went from timeline ${from} to ${to} during the backup`;
  return new PgkitError("postgres-failed", message, { hint: "it was promoted; take the backup again" });
}

async function waitFor(run: Run, { repository, signal }: Target, base: BaseFacts): Promise<void> {
  const lineage = { instance: run.instance, systemId: run.facts.server.systemId };
  await waitForWal(repository, { ...base, lineage }, { clock: run.clock, timeoutMs: run.walTimeoutMs, signal });
}

async function commit(run: Run, target: Target, base: BaseFacts, outcome: BackupOutcome): Promise<void> {
  const { version, systemId } = run.facts.server;
  const facts = {
    ...{ id: run.id, kind: "base" as const, instance: run.instance, startedAt: rfc3339(run.startedAt), base },
    server: { version, systemId },
    tools: { pgkit: run.pgkitVersion },
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
