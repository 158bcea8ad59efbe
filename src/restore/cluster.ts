import { PgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import type { Programs } from "../postgres/programs.ts";
import type { RunAs } from "../postgres/run-as.ts";
import { storedBytesOf } from "../repo/files.ts";
import type { Manifest } from "../repo/manifest.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { bringSavedWalBack, restoreChain } from "./cluster-chain.ts";
import { claimOf, takePlaces } from "./cluster-claim.ts";
import { finishCluster } from "./cluster-finish.ts";
import { extractBackup, readServerManifest } from "./cluster-full.ts";
import { type Places, placesOf } from "./cluster-places.ts";
import { saveUnarchivedWal } from "./cluster-wal.ts";
import { localError } from "./local-errors.ts";

export interface ClusterFilesRequest {
  repository: RepositoryReader;
  /** The full backup first, then each incremental one built on the one before; the last is what is restored. */
  chain: readonly Manifest[];
  /** Made where missing. Absolute. */
  dataDir: string;
  /** Where each tablespace goes, by its oid; one that is not named goes back to the place recorded in the backup. */
  tablespaces: ReadonlyMap<number, string>;
  /** Keeps what is right in a directory of the same system already, and removes what the backup has not. */
  delta: boolean;
  /** Whose the files shall be; `undefined`: ours. */
  runAs: RunAs | undefined;
  /** Files written, hashed and flushed at the same time. */
  jobs: number;
  /** Of the server's major, with pg_combinebackup and pg_verifybackup; needed for chains alone. */
  programs?: Programs | undefined;
  /**
   * Only files for which this gives true get their content (paths as in backup_manifest); the others are sparse. Of a chain
   * every file gets its content, as pg_combinebackup needs them all.
   */
  wants?: ((path: string) => boolean) | undefined;
  /**
   * Runs when all but pg_control is in place and durable, before a server could start here: what must be there before
   * it may, such as recovery.signal, is written now. When it fails, the directory stays one that cannot start.
   */
  beforeControl?: ((dataDir: string) => Promise<void>) | undefined;
  clock: Clock;
  report: Report;
  signal: AbortSignal;
}

export interface RestoredFiles {
  /** Files of the backup that are in place now. */
  files: number;
  /** Bytes of content written, not counting what is sparse or was kept. */
  writtenBytes: number;
  /** Of `files`, those that were right already: by `delta`, or by a restore that was cut before. */
  keptFiles: number;
}

/**
 * Puts the files of a base backup into a data directory, and its tablespaces in their places. All is checked against the
 * server's backup_manifest and durable when this resolves; global/pg_control comes last, so that a restore that was cut
 * cannot start, and goes on where it was when run again. No recovery settings are written. Fails with `refused-overwrite`
 * or `system-mismatch` before anything is changed; with `object-corrupt`, `verification-failed` or `disk-full` later.
 */
export async function restoreClusterFiles(request: ClusterFilesRequest): Promise<RestoredFiles> {
  const backup = checkedChain(request.chain);
  const { dataDir, runAs, report, clock } = request;
  try {
    const places = placesOf(backup, dataDir, request.tablespaces);
    const state = await claimOf(places, backup, request.delta);
    const work = await prepared(request, backup, places, state === "new");
    const progress = progressOf(request, backup);
    await takePlaces(places, backup, runAs);
    if (state !== "new") await bringSavedWalBack(dataDir, runAs);
    if (state === "delta") await saveUnarchivedWal(dataDir, report);
    const restored = await work(progress.add);
    await finishCluster(places, request.beforeControl && (() => request.beforeControl?.(dataDir) ?? Promise.resolve()));
    report({ type: "done", task: progress.task, bytes: progress.bytes(), seconds: progress.seconds(clock) });
    return restored;
  } catch (error) {
    throw localError(error, dataDir);
  }
}

/** What can fail without anything having been changed: the backups' own manifests are read and checked. */
async function prepared(
  request: ClusterFilesRequest,
  backup: Manifest,
  places: Places,
  fresh: boolean,
): Promise<(onBytes: (bytes: number) => void) => Promise<RestoredFiles>> {
  const manifest = await readServerManifest(request.repository, backup, request.signal);
  if (request.chain.length > 1) return (onBytes) => restoreChain(request, places, onBytes);
  return (onBytes) => extractBackup(request, backup, places, { manifest, fresh, onBytes });
}

/** The last of a chain of which each backup builds on the one before. */
function checkedChain(chain: readonly Manifest[]): Manifest {
  for (const [index, { id, parent }] of chain.entries()) {
    const before = chain[index - 1]?.id;
    if (parent !== before)
      throw new PgkitError(
        "bug",
        `in a chain to restore, ${id} is not followed by its child (it builds on ${parent}, before it is ${before})`,
      );
  }
  const last = chain.at(-1);
  if (last === undefined) throw new PgkitError("bug", "there is no backup in the chain to restore");
  return last;
}

function progressOf({ chain, report, clock }: ClusterFilesRequest, { instance, id }: Manifest) {
  const task = `restore ${instance}/${id}`;
  const totalBytes = storedBytesOf(chain.flatMap(({ files }) => files));
  const startedMs = clock.monotonicMs();
  let bytes = 0;
  report({ type: "start", task, totalBytes });
  return {
    task,
    bytes: () => bytes,
    seconds: (at: Clock) => (at.monotonicMs() - startedMs) / 1000,
    add: (more: number) => {
      bytes += more;
      report({ type: "progress", task, bytes, totalBytes });
    },
  };
}
