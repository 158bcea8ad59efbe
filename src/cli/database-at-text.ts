import { formatLsn } from "../lib/lsn.ts";
import { formatBytes, formatDuration } from "../lib/parse.ts";
import { inZone } from "../lib/parse-time.ts";
import type { DatabaseAtResult } from "../restore/database-at.ts";
import type { DatabaseAtPlan } from "../restore/database-at-plan.ts";
import { describeTarget, type RecoveryTarget, targetJson } from "../restore/recovery-target.ts";
import { harmless } from "./text.ts";

/** The plan in words; moments in UTC and in the user's zone. */
export function planText(plan: DatabaseAtPlan, timeZone: string): string {
  const { recovery, to, tables, files, contentCheck } = plan;
  const { backup, chain } = recovery;
  const what = tables.length === 0 ? `database ${plan.database}` : `${tables.join(", ")} of database ${plan.database}`;
  const links = chain.length === 1 ? "" : `, put together from ${chain.map(({ id }) => id).join(", ")}`;
  const proof = contentCheck ? "tables, rows and content" : "tables and rows";
  const lines = [
    `restore ${what} of instance ${recovery.instance} to ${moment(recovery.target, timeZone)}, into instance ${to.instance}`,
    `  base backup ${backup.id}, consistent at ${backup.base.stopLsn} of ${backup.base.stoppedAt}${links}`,
    `  fetch ${recovery.objects} objects, ${formatBytes(recovery.storedBytes)}, and at most ${recovery.walSegments} WAL segments, ${formatBytes(recovery.walStoredBytes)}`,
    `  recover it in a scratch server on this machine, at most ${formatBytes(plan.scratchBytes)} of disk: ${filesLine(plan)}`,
    ...recovery.notes.map((note) => `  note: ${note}`),
    `  dump ${what} out of that, load it into a new database of instance ${to.instance}, and compare ${proof}`,
    `  ${lastStep(plan)}; no other database is touched${files.left.length === 0 ? "" : ", here or there"}`,
  ];
  return harmless(lines.join("\n"));
}

function filesLine({ files, writtenBytes, recovery }: DatabaseAtPlan): string {
  if (files.left.length === 0) return `all files, ${formatBytes(recovery.restoredBytes)}`;
  return `${formatBytes(writtenBytes)} of ${formatBytes(recovery.restoredBytes)} are written, without the tables of ${files.left.length} other databases`;
}

function lastStep({ to, keptAs, besideSchema, tables }: DatabaseAtPlan): string {
  if (besideSchema !== undefined) {
    return `copy ${tables.length === 1 ? "the table" : "the tables"} into a new schema ${besideSchema} of ${to.database}, beside the live ones`;
  }
  if (keptAs === undefined) return `name it ${to.database}`;
  return `end the sessions of ${to.database}, rename that to ${keptAs} and the new one to ${to.database} in one transaction`;
}

function moment(target: RecoveryTarget, timeZone: string): string {
  const local = target.type === "time" && timeZone !== "UTC" ? ` (${inZone(target.time, timeZone)})` : "";
  return `${describeTarget(target)}${local}`;
}

export function planJson(plan: DatabaseAtPlan) {
  const { recovery, database, to, keptAs, besideSchema, tables, files, writtenBytes, scratchBytes, contentCheck } =
    plan;
  const { backup, chain, target, objects, storedBytes, restoredBytes, walSegments, walStoredBytes, notes } = recovery;
  return {
    ...{ backup: backup.id, chain: chain.map(({ id }) => id), target: targetJson(target) },
    ...{ from: { instance: recovery.instance, database }, to, ...(keptAs === undefined ? {} : { keptAs }) },
    ...(besideSchema === undefined ? {} : { schema: besideSchema }),
    ...{ tables: tables.length === 0 ? "all" : tables, contentCheck },
    ...{ objects, storedBytes, walSegments, walStoredBytes, latest: formatLsn(recovery.latest.lsn), notes },
    ...{ writtenBytes, wholeBytes: restoredBytes, scratchBytes, withoutFilesOf: files.left.map(({ name }) => name) },
  };
}

type Result = DatabaseAtResult & { seconds: number };

export function resultJson(plan: DatabaseAtPlan, result: Result) {
  const { recovery, besideSchema, to, contentCheck } = plan;
  const { database, keptAs, reached, tables, rows, notRestored, writtenBytes, wholeBytes, seconds } = result;
  return {
    ...{ backup: recovery.backup.id, target: targetJson(recovery.target), reached },
    ...{ instance: to.instance, database: plan.database, as: database },
    ...(keptAs === undefined ? {} : { keptAs }),
    ...(besideSchema === undefined ? {} : { schema: besideSchema }),
    ...{ tables, rows, contentChecked: contentCheck, notRestored, writtenBytes, wholeBytes, seconds },
  };
}

export function resultText(plan: DatabaseAtPlan, result: Result): string {
  const { recovery, besideSchema, to, contentCheck } = plan;
  const { database, keptAs, reached, tables, rows, writtenBytes, wholeBytes, seconds } = result;
  const until = reached.time === undefined ? reached.lsn : `${reached.time}, ${reached.lsn}`;
  const compared = `${tables} tables and ${rows} rows, ${contentCheck ? "compared row by row" : "content not compared"}`;
  const where = besideSchema === undefined ? database : `schema ${besideSchema} of ${database}`;
  const lines = [
    `restored ${where} on instance ${to.instance} as ${plan.database} was at ${describeTarget(recovery.target)} (last transaction ${until}) in ${formatDuration(Math.round(seconds * 1000))}: ${compared}`,
    `${formatBytes(writtenBytes)} of the base backup's ${formatBytes(wholeBytes)} were written`,
    ...(keptAs === undefined
      ? []
      : [`the former ${database} is kept as ${keptAs}; when it is not needed: DROP DATABASE "${keptAs}"`]),
    ...result.notRestored.map((statement) => `NOT RESTORED, the live rows do not fit it: ${statement}`),
  ];
  return harmless(lines.join("\n"));
}
