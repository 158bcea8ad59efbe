import { readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { parseBackupManifest } from "../lib/backup-manifest.ts";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { parseLsn } from "../lib/lsn.ts";
import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import { type RunAs, writePrivateFile } from "../postgres/run-as.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import { endedInRecovery } from "../wal/control.ts";
import { systemIdOf } from "./cluster-claim.ts";
import { markerName } from "./cluster-marker.ts";
import { controlPath } from "./cluster-places.ts";
import { assertNotRunning } from "./cluster-running.ts";
import { localError } from "./local-errors.ts";
import type { RecoveryPlan } from "./recovery-plan.ts";
import { targetIn, withRecoveryBlock } from "./recovery-settings.ts";

export interface Resumption {
  plan: Pick<RecoveryPlan, "systemId" | "target" | "backup">;
  dataDir: string;
  start: boolean;
  runAs: RunAs | undefined;
  /** The recovery settings that a restore would write there now. */
  settings: () => Promise<[string, string][]>;
  clock: Clock;
  report: Report;
  signal: AbortSignal;
}

/** The server of a run that was killed stops by itself: for so long it is waited for. */
const patienceMs = 20_000;

/**
 * True when the directory holds what this restore has put there, with its recovery not begun or cut: PostgreSQL goes on with
 * that where it was, also where it was killed in the checkpoint that ends it. False where it is another matter, which is the
 * claim's. Fails with `refused-overwrite` when the recovery there has another target, has ended, or is not asked for; the
 * hint says what to do.
 */
export async function recoveryGoesOn(request: Resumption): Promise<boolean> {
  try {
    return await isUnderWay(request);
  } catch (error) {
    throw localError(error, request.dataDir);
  }
}

async function isUnderWay(request: Resumption): Promise<boolean> {
  const { dataDir, plan, start, runAs, settings, report } = request;
  const there = targetIn((await unlessAbsent(readFile(join(dataDir, "postgresql.auto.conf"), "utf8"))) ?? "");
  const isThere = async (name: string) => (await unlessAbsent(stat(join(dataDir, name)))) !== undefined;
  // With the marker, or without pg_control, its files are not whole yet.
  if (there === undefined || (await isThere(markerName)) || !(await isThere(controlPath))) return false;
  if ((await systemIdOf(dataDir)) !== plan.systemId) return false;
  const signalled = await isThere("recovery.signal");
  if (!signalled) {
    await assertNotRunning(dataDir);
    if (!(await endedInRecovery(dataDir))) {
      throw refused(`the recovery of ${dataDir} has ended already`, "start a server on it to see what it holds");
    }
  }
  if (targetIn(withRecoveryBlock("", await settings())) !== there) {
    throw refused(`${dataDir} holds a restore to another target`, "with that target, and --start, it is gone on with");
  }
  if (plan.target.type === "immediate" && !(await isOf(plan.backup, dataDir))) {
    throw refused(`${dataDir} holds a restore of another backup`, "with that one as --backup it is gone on with");
  }
  if (!start) {
    const hint = "start a server on it, or run this again with --start";
    throw refused(`${dataDir} holds this restore already, to be recovered`, hint);
  }
  await untilNoneRuns(request);
  // PostgreSQL takes it away before the checkpoint that ends the recovery.
  if (!signalled) await writePrivateFile(join(dataDir, "recovery.signal"), "", runAs);
  report({ type: "note", message: `the files are in place in ${dataDir}: going on with the recovery` });
  return true;
}

/** A target that is the end of a backup is another one for each. */
async function isOf({ base, id }: RecoveryPlan["backup"], dataDir: string): Promise<boolean> {
  const { walRanges } = parseBackupManifest(
    await readFile(join(dataDir, "backup_manifest")),
    `backup_manifest of ${id}`,
  );
  return walRanges.at(-1)?.endLsn === parseLsn(base.stopLsn);
}

async function untilNoneRuns({ dataDir, clock, signal }: Resumption): Promise<void> {
  for (const deadline = clock.monotonicMs() + patienceMs; ; await clock.delay(100, signal)) {
    try {
      return await assertNotRunning(dataDir);
    } catch (error) {
      if (!isPgkitError(error, "refused-overwrite") || clock.monotonicMs() > deadline) throw error;
    }
  }
}

function refused(message: string, hint: string): PgkitError {
  return new PgkitError("refused-overwrite", message, {
    hint: `${hint}; --delta restores anew over it and keeps the files that are right`,
  });
}
