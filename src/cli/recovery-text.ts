import { formatLsn } from "../lib/lsn.ts";
import { formatBytes, formatDuration } from "../lib/parse.ts";
import { inZone } from "../lib/parse-time.ts";
import type { RestoredInstance } from "../restore/instance.ts";
import type { RecoveryPlan } from "../restore/recovery-plan.ts";
import { describeTarget, targetJson } from "../restore/recovery-target.ts";
import { harmless } from "./text.ts";

/** How an instance is restored, besides what its plan says. */
export interface RestoreOptions {
  dataDir: string;
  timeZone: string;
  start: boolean;
  delta: boolean;
  withoutArchiving: boolean;
}

/** The plan in words: what is fetched, where it goes, how far it is recovered; moments in UTC and in the user's zone. */
export function planText(plan: RecoveryPlan, options: RestoreOptions): string {
  const { backup, chain, target } = plan;
  const { timeZone } = options;
  const moment =
    target.type === "time" ? `${describeTarget(target)}${local(target.text, timeZone)}` : describeTarget(target);
  const links = chain.length === 1 ? "" : `, put together from ${chain.map(({ id }) => id).join(", ")}`;
  const some = ["time", "xid", "name"].includes(target.type) ? "at most " : "";
  const lines = [
    `restore instance ${plan.instance} (system ${plan.systemId}) to ${moment}, into ${options.dataDir}`,
    `  base backup ${backup.id}, consistent at ${backup.base.stopLsn} of ${backup.base.stoppedAt}${local(backup.base.stoppedAt, timeZone)}${links}`,
    `  fetch ${plan.objects} objects, ${formatBytes(plan.storedBytes)}; restored it is ${formatBytes(plan.restoredBytes)}${options.delta ? "; what is right in the directory is kept" : ""}`,
    `  WAL: ${some}${plan.walSegments} segments, ${formatBytes(plan.walStoredBytes)}, to timeline ${plan.timeline}`,
    ...latestLine(plan, timeZone),
    ...plan.notes.map((note) => `  note: ${note}`),
    `  at the target: ${plan.action}; ${options.start ? "recovery is run here and now" : "recovery begins when a server is started there (--start does it now)"}`,
    `  archiving: ${options.withoutArchiving ? "switched off in the restored instance" : "as the backup's settings say, on a new timeline after a promotion (--without-archiving for a copy beside the living one)"}`,
  ];
  return harmless(lines.join("\n"));
}

function latestLine({ latest }: RecoveryPlan, timeZone: string): string[] {
  const { time, lsn } = latest;
  return time === undefined
    ? []
    : [`  the latest that is stored: ${time}${local(time, timeZone)} at ${formatLsn(lsn)}`];
}

function local(text: string, timeZone: string): string {
  return timeZone === "UTC" ? "" : ` (${inZone(new Date(text), timeZone)})`;
}

export function planJson(plan: RecoveryPlan, { dataDir, start, delta, withoutArchiving }: RestoreOptions) {
  const { instance, systemId, backup, chain, target, timeline, action, latest, notes } = plan;
  const { objects, storedBytes, restoredBytes, walSegments, walStoredBytes } = plan;
  return {
    ...{ instance, systemId, backup: backup.id, chain: chain.map(({ id }) => id), target: targetJson(target) },
    ...{ timeline, action, dataDir, start, delta, withoutArchiving, objects, storedBytes, restoredBytes },
    ...{ walSegments, walStoredBytes, latest: { ...latest, lsn: formatLsn(latest.lsn) }, notes },
    wal: plan.wal.map((each) => ({ ...each, startLsn: formatLsn(each.startLsn), endLsn: formatLsn(each.endLsn) })),
  };
}

type Result = RestoredInstance & { seconds: number };

export function resultJson(plan: RecoveryPlan, { dataDir }: RestoreOptions, { reached, files, seconds }: Result) {
  const { backup, instance, target, action } = plan;
  const recovery = reached === undefined ? "pending" : "done";
  return {
    ...{ backup: backup.id, instance, target: targetJson(target), action, recovery },
    ...(reached === undefined ? {} : { reached }),
    ...{ dataDir, files, seconds },
  };
}

export function resultText(plan: RecoveryPlan, options: RestoreOptions, { reached, files, seconds }: Result): string {
  const { dataDir, timeZone } = options;
  const took = formatDuration(Math.round(seconds * 1000));
  const restored = `restored ${plan.backup.id} into ${dataDir} in ${took}: ${files.files} files, ${formatBytes(files.writtenBytes)} written`;
  if (reached === undefined) {
    const next = `start a server of PostgreSQL ${Number.parseInt(plan.backup.server.version, 10)} on it: it recovers to ${describeTarget(plan.target)}`;
    return harmless(`${restored}\n${next}`);
  }
  const time =
    reached.time === undefined ? "" : `, the last transaction is of ${reached.time}${local(reached.time, timeZone)}`;
  return harmless(
    `${restored}\nreached ${reached.lsn} on timeline ${reached.timeline}${time}\n${nextStep(plan, dataDir)}`,
  );
}

function nextStep({ action }: RecoveryPlan, dataDir: string): string {
  if (action === "promote") return `the server is stopped: start it on ${dataDir}, no pgkit is needed in it`;
  return "the server is stopped at the target: to recover on from there, change the recovery_target settings in its postgresql.auto.conf and start it";
}
