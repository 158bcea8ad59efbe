import type { VolumeRestoreFacts } from "../incluster/facts.ts";
import { syncText } from "../incluster/gitops.ts";
import type { RestoreView } from "../incluster/journal.ts";
import { keptName } from "../incluster/names.ts";
import type { VolumeResult } from "../incluster/steps/restore-volume.ts";
import { stepsOf } from "../incluster/steps.ts";
import { planJson, planText } from "./recovery-text.ts";
import type { PreparedRestore } from "./restore-volume-plan.ts";
import { harmless } from "./text.ts";

type Told = RestoreView;

/** The plan in words. */
export function preparedText({ facts, plan, sync, risks, newClaim }: PreparedRestore, timeZone: string): string {
  const { namespace, statefulSet, volume } = facts;
  const options = { dataDir: volume.dataDir, timeZone, start: true, delta: false };
  const steps = newClaim === undefined ? stepsOf(facts) : [];
  const wide = Math.max(0, ...steps.map(({ name }) => name.length));
  return harmless(
    [
      planText(plan, { ...options, withoutArchiving: newClaim !== undefined }),
      `  StatefulSet ${namespace}/${statefulSet}, volume claim ${volume.claim}, by a Job as user ${volume.user}`,
      `  ${placeText(facts, newClaim)}`,
      ...(newClaim === undefined ? [`  ${managedText(sync)}`] : []),
      ...steps.map(({ name, does }) => `  ${name.padEnd(wide)}  ${does}`),
      ...risks.flatMap(({ level, message, hint }) => [`${level}: ${message}`, `  ${hint}`]),
    ].join("\n"),
  );
}

function placeText(facts: VolumeRestoreFacts, newClaim: string | undefined): string {
  if (newClaim !== undefined) return "the volume claim is a new one; the server and its volume are left alone";
  if (facts.keepOld === "snapshot") return `the old data is kept by VolumeSnapshot ${keptName(facts)}`;
  return `the old data is kept on the volume as ${keptName(facts)}`;
}

function managedText(sync: PreparedRestore["sync"]): string {
  const what = syncText(sync);
  if (what !== undefined) return `${what} is paused meanwhile`;
  if (sync.type === "unknown") return `${sync.who} manages it`;
  const who = sync.type === "none" ? sync.who : undefined;
  return who === undefined ? "nothing manages it that is known" : `${who} manages it, and does nothing by itself`;
}

export function preparedJson({ facts, plan, sync, risks, newClaim }: PreparedRestore) {
  const { namespace, statefulSet, volume, keepOld } = facts;
  const options = { dataDir: volume.dataDir, timeZone: "UTC", start: true, delta: false };
  return {
    plan: planJson(plan, { ...options, withoutArchiving: newClaim !== undefined }),
    ...{ namespace, statefulSet, volume, keepOld, managedBy: sync },
    steps: newClaim === undefined ? stepsOf(facts).map(({ name, does }) => ({ name, does })) : [],
    risks,
    dryRun: true,
  };
}

/** What `--json` shows of a restore. */
export function restoreJson({ facts, state, message, steps, begunAt, changedAt }: Told) {
  const { id, instance, namespace, statefulSet, target, backup, volume } = facts;
  return {
    ...{ id, instance, namespace, statefulSet, claim: volume.claim, target, backup, state, begunAt, changedAt },
    ...(message === undefined ? {} : { message }),
    ...resultOf(steps),
    steps: [...steps].map(([name, { isDone, at }]) => ({ name, state: isDone ? "done" : "begun", at })),
  };
}

export function restoreText(restore: Told): string {
  const { facts, state, message, steps } = restore;
  const last = [...steps].at(-1);
  const { reached, keptAt, baseBackup } = resultOf(steps);
  const time = reached?.time === undefined ? "" : `, the last transaction is of ${reached.time}`;
  return harmless(
    [
      `${facts.instance}: StatefulSet ${facts.namespace}/${facts.statefulSet} to ${facts.target}, ${state}`,
      ...(message === undefined ? [] : [`  ${message}`]),
      ...(reached === undefined ? [] : [`  reached ${reached.lsn} on timeline ${reached.timeline}${time}`]),
      ...(keptAt === undefined ? [] : [`  the old data is kept on volume ${facts.volume.claim} as ${keptAt}`]),
      ...(baseBackup === undefined ? [] : [`  new base backup ${baseBackup}`]),
      ...(state === "restored" || last === undefined
        ? []
        : [`  last step: ${last[0]}${last[1].isDone ? "" : ", not done"}`]),
      ...nextSteps(restore).map((line) => `  ${line}`),
    ].join("\n"),
  );
}

function resultOf(steps: Told["steps"]): Partial<VolumeResult> & { baseBackup?: string } {
  const volume = steps.get("restore-volume")?.result as VolumeResult | undefined;
  const baseBackup = steps.get("base-backup")?.result as string | undefined;
  return { ...volume, ...(baseBackup === undefined ? {} : { baseBackup }) };
}

function nextSteps({ state, facts }: Told): string[] {
  const command = `pgkit restore --in-kubernetes ${facts.instance}`;
  switch (state) {
    case "restored":
      return [
        `back to what was before: ${command} --rollback`,
        `when all is well, this removes the old data: ${command} --finish`,
      ];
    case "stopped":
    case "restoring":
      return [`on: ${command} ${facts.asked}; back: ${command} --rollback`];
    case "rolling-back":
      return [`on: ${command} --rollback`];
    case "finishing":
      return [`on: ${command} --finish`];
    case "rolled-back":
      return facts.keepOld === "snapshot" ? [`VolumeSnapshot ${keptName(facts)} is still there`] : [];
    case "finished":
      return [];
  }
}

/** What to do with a volume that was restored beside. */
export function besideText(facts: VolumeRestoreFacts, { reached }: VolumeResult): string {
  const { namespace, statefulSet, volume, oldClaim = "" } = facts;
  const time = reached.time === undefined ? "" : `, the last transaction is of ${reached.time}`;
  return harmless(
    [
      `restored ${facts.instance} to ${facts.target} on volume claim ${namespace}/${volume.claim}`,
      `  reached ${reached.lsn} on timeline ${reached.timeline}${time}`,
      `  to look at it: a Pod of the server's image with this claim at ${volume.mountPath}, as user ${volume.user}; it archives nothing`,
      `  to take over from it: copy what is missing, or run pgkit restore --in-kubernetes ${facts.instance} in place`,
      `  StatefulSet ${statefulSet} and its claim ${oldClaim} are as they were`,
      `  when it is not needed: kubectl -n ${namespace} delete pvc ${volume.claim} && kubectl -n ${namespace} delete job -l pgkit.dev/restore=${facts.id}`,
    ].join("\n"),
  );
}
