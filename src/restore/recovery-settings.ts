import { PgkitError } from "../lib/errors.ts";
import { formatLsn, type Lsn } from "../lib/lsn.ts";
import type { RecoveryPlan } from "./recovery-plan.ts";
import type { RecoveryTarget } from "./recovery-target.ts";

/** The lines of pgkit in postgresql.auto.conf stand between these two. */
const begin = "# pgkit: settings of a recovery, written by pgkit restore; remove this block when it is done";
const end = "# pgkit: end";

export interface RecoverySettingsInput {
  plan: Pick<RecoveryPlan, "target" | "targetTimeline" | "action" | "gapAt">;
  restoreCommand: string;
  /** A server that is promoted goes on archiving where its settings say so, unless this is set. */
  noArchive: boolean;
  /** Of the backup, for the target `immediate`: see `lastRecordOf`. */
  lastRecord?: Lsn | undefined;
}

/** The settings of a recovery by their names, in the order in which they are written. */
export function recoverySettings(input: RecoverySettingsInput): [string, string][] {
  const { plan, restoreCommand, noArchive, lastRecord } = input;
  const { target, targetTimeline, action, gapAt } = plan;
  return [
    ["restore_command", restoreCommand],
    ...targetSettings(target, lastRecord),
    ["recovery_target_timeline", targetTimeline],
    // Where there is no target, PostgreSQL promotes at the end whatever this says.
    ...(target.type === "latest" ? [] : [["recovery_target_action", action] as [string, string]]),
    // Reading ahead would come to the gap, which restore_command must not pass over, before the target.
    ...(gapAt === undefined ? [] : [["recovery_prefetch", "off"] as [string, string]]),
    // From a standby's backup: it would look for a primary before it looks into the archive.
    ["primary_conninfo", ""],
    ["primary_slot_name", ""],
    ["recovery_end_command", ""],
    ["archive_cleanup_command", ""],
    ...(noArchive ? [["archive_mode", "off"] as [string, string]] : []),
  ];
}

/** The one target alone: an empty text for another kind counts as a second target to PostgreSQL. */
function targetSettings(target: RecoveryTarget, lastRecord: Lsn | undefined): [string, string][] {
  if (target.type === "latest") return [];
  if (target.type === "immediate") {
    if (lastRecord === undefined) return [["recovery_target", "immediate"]];
    return targetSettings({ type: "lsn", lsn: lastRecord, inclusive: true }, undefined);
  }
  const inclusive = "inclusive" in target ? target.inclusive : true;
  return [
    [`recovery_target_${target.type}`, targetText(target)],
    ["recovery_target_inclusive", inclusive ? "on" : "off"],
  ];
}

/** With an offset: without one PostgreSQL would read it in the server's time zone. */
function targetText(target: Exclude<RecoveryTarget, { type: "latest" | "immediate" }>): string {
  switch (target.type) {
    case "time":
      return target.text.replace("T", " ").replace(/Z$/, "+00");
    case "lsn":
      return formatLsn(target.lsn);
    case "xid":
      return target.xid;
    case "name":
      return target.name;
  }
}

/** The text of postgresql.auto.conf with these settings at its end, in the place of those of an earlier restore. */
export function withRecoveryBlock(autoConf: string, settings: readonly (readonly [string, string])[]): string {
  const rest = withoutFormerTarget(withoutRecoveryBlock(autoConf));
  const lines = settings.map(([name, value]) => `${name} = ${quoted(name, value)}`);
  return `${rest === "" || rest.endsWith("\n") ? rest : `${rest}\n`}${[begin, ...lines, end].join("\n")}\n`;
}

/** The text as it was before `withRecoveryBlock`. */
export function withoutRecoveryBlock(autoConf: string): string {
  const lines = autoConf.split("\n");
  const first = lines.indexOf(begin);
  const last = lines.indexOf(end, first);
  if (first < 0 || last < 0) return autoConf;
  return withoutRecoveryBlock([...lines.slice(0, first), ...lines.slice(last + 1)].join("\n"));
}

/** What pgkit's block says of the target, line by line; `undefined` where there is none. */
export function targetIn(autoConf: string): string | undefined {
  const lines = autoConf.split("\n");
  const first = lines.lastIndexOf(begin);
  const last = lines.indexOf(end, first);
  if (first < 0 || last < 0) return undefined;
  const ofTarget = lines.slice(first, last).filter((line) => /^(recovery_target|archive_mode)/.test(line));
  return ofTarget.sort().join("\n");
}

/** Without what an earlier recovery of the server that was backed up, or its life as a standby, left for ALTER SYSTEM. */
function withoutFormerTarget(autoConf: string): string {
  const former = /^\s*(recovery_target\w*|primary_conninfo|primary_slot_name)\b/i;
  return autoConf
    .split("\n")
    .filter((line) => !former.test(line))
    .join("\n");
}

/** The text with archiving switched off, for good: a copy must not write into the archive of the one it was made of. */
export function withoutArchiving(autoConf: string): string {
  const lines = autoConf.split("\n").filter((line) => !/^\s*archive_mode\b/i.test(line));
  return `${lines.join("\n").replace(/\n*$/, "\n")}archive_mode = 'off'\n`.replace(/^\n/, "");
}

/** Both quote and backslash are written twice, as ALTER SYSTEM does. */
function quoted(name: string, value: string): string {
  if (/[\r\n\0]/.test(value)) throw new PgkitError("usage", `${name} cannot span lines: ${JSON.stringify(value)}`);
  return `'${value.replaceAll("\\", "\\\\").replaceAll("'", "''")}'`;
}
