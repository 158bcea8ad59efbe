import { chown, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { parseSegmentName, walFileKind } from "../lib/lsn.ts";
import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import type { RunAs } from "../postgres/run-as.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { fetchWal } from "../wal/fetch.ts";
import { prefetcher } from "../wal/prefetch.ts";
import { spoolRestoreCommand } from "../wal/prefetch-command.ts";
import { refuseLivingTablespaces } from "./new-tablespaces.ts";
import type { WalFeed } from "./recover.ts";
import type { RecoveryPlan } from "./recovery-plan.ts";

export interface WalFeedRequest {
  repository: RepositoryReader;
  plan: Pick<RecoveryPlan, "backup" | "lineage" | "wal" | "target" | "action">;
  dataDir: string;
  runAs: RunAs | undefined;
  /** Files fetched at once. */
  parallel: number;
  clock: Clock;
  report: Report;
  signal: AbortSignal;
}

/** Runs `use` while this process feeds a recovery of the data directory with the WAL of its plan. */
export async function withWalFeed<Result>(
  request: WalFeedRequest,
  use: (feed: WalFeed) => Promise<Result>,
): Promise<Result> {
  const { plan, dataDir, runAs, parallel, clock, report, signal } = request;
  // On one file system with pg_wal: taking a segment is a rename.
  const folder = join(dataDir, "pg_wal", "pgkit-recovery");
  await mkdir(folder, { recursive: true, mode: 0o700 });
  if (runAs !== undefined) await chown(folder, runAs.uid, runAs.gid);
  const feeding = await prefetcher({
    fetch: async (name, stop) => {
      const bytes = await fetchForPlan(request, name, stop);
      if (bytes !== undefined && walFileKind(name) === "segment") {
        await refuseLivingTablespaces(bytes, { ...plan, dataDir });
      }
      return bytes;
    },
    ...{ folder, walDir: join(dataDir, "pg_wal"), path: plan.wal, segmentBytes: plan.backup.base.segmentBytes },
    ...{ parallel, ahead: 2 * parallel, owner: runAs, clock, report, signal },
    takesBack: plan.action === "promote",
  });
  try {
    return await use({ restoreCommand: spoolRestoreCommand(folder), failure: () => feeding.failure });
  } finally {
    await feeding.stop();
    await rm(folder, { recursive: true, force: true });
  }
}

export interface FetchedPlan {
  repository: RepositoryReader;
  plan: Pick<RecoveryPlan, "backup" | "lineage" | "wal" | "target">;
}

/**
 * A WAL file for the recovery of a plan; `undefined` where it is proven absent, and that is no gap. A segment that is
 * absent while later ones are stored is one, and fails with `wal-gap`, except before the WAL of the plan, which is inside
 * the backup (PostgreSQL asks the archive first), and behind it: PostgreSQL reads ahead of its target, and fails by itself
 * when it comes to the end of the WAL before that.
 */
export async function fetchForPlan(
  { repository, plan: { backup, lineage, wal, target } }: FetchedPlan,
  name: string,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  if (lineage === undefined) return undefined;
  const lsn = parseSegmentName(name, lineage.segmentBytes)?.startLsn;
  const [from, end] = [wal[0]?.startLsn, wal.at(-1)?.endLsn];
  const inBackup = backup.base.walIncluded && lsn !== undefined && (from === undefined || lsn < from);
  const behind = target.type !== "latest" && lsn !== undefined && end !== undefined && lsn >= end;
  return await fetchWal(repository, lineage, name, { wholeOnly: inBackup || behind, signal });
}
