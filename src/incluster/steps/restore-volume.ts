import { PgkitError } from "../../lib/errors.ts";
import { putBackClaim } from "../claim-from-snapshot.ts";
import type { Reached, RestoreContext, Step } from "../facts.ts";
import { jobName, keptName } from "../names.ts";
import { removeJob, runOnVolume } from "../run-volume-job.ts";
import { rootMount } from "../server-volume.ts";
import { scaleDownStep } from "./scale.ts";

export interface VolumeResult {
  readonly reached: Reached;
  /** Where the old data is on the volume; `undefined` where a snapshot has it. */
  readonly keptAt?: string | undefined;
}

/** A Job on the volume keeps the old data, restores, recovers to the target and stops cleanly. */
export const restoreVolumeStep: Step<undefined, VolumeResult> = {
  name: "restore-volume",
  does: "restores on the volume in a Job, recovers to the target, and keeps the old data beside",
  // Of what is on the volume only a Job can tell: one that finds its work done says so, and ends.
  check: async ({ resultOf }) => (resultOf(restoreVolumeStep) === undefined ? "todo" : "done"),
  run: async (context) => {
    const node = context.planOf(scaleDownStep)?.node;
    const document = await runOnVolume(context, "restore", restoreWords(context), node);
    return resultIn(document);
  },
  verify: async ({ report }, { reached }) => {
    const time = reached.time === undefined ? "" : `, the last transaction is of ${reached.time}`;
    report({ type: "note", message: `reached ${reached.lsn} on timeline ${reached.timeline}${time}` });
  },
  undo: async (context) => {
    const { restore } = context;
    await removeJob(context, { metadata: { name: jobName(restore, "restore"), namespace: restore.namespace } });
    if (restore.keepOld === "snapshot") return putBackClaim(context);
    const words = ["restore", "--data-dir", restore.volume.dataDir, "--put-back", keptName(restore), ...outputWords];
    sayKept(context, await runOnVolume(context, "put-back", words, context.planOf(scaleDownStep)?.node));
    await removeJob(context, { metadata: { name: jobName(restore, "put-back"), namespace: restore.namespace } });
  },
};

/** A server may have written to what was restored whole. */
function sayKept({ report, restore }: RestoreContext, document: unknown): void {
  const { kept } = document as { kept?: string };
  if (kept === undefined) return;
  const message = `what had been restored is kept on volume ${restore.volume.claim} as ${kept}: remove it when it is not needed`;
  // The server's Pod may have the volume elsewhere.
  const command = `kubectl -n ${restore.namespace} exec ${restore.statefulSet}-0 -- rm -r ${kept}`;
  report({ type: "warning", message, ...(kept.startsWith(rootMount) ? {} : { hint: command }) });
}

/** For `LogReader`. */
export const outputWords = ["--yes", "--progress=events"];

function restoreWords({ restore }: RestoreContext): string[] {
  const { instance, volume, words, keepOld } = restore;
  const keeping = keepOld === "rename" ? ["--set-aside", keptName(restore)] : ["--delta"];
  return [
    "restore",
    "--instance",
    instance,
    "--data-dir",
    volume.dataDir,
    ...keeping,
    ...words,
    "--start",
    ...outputWords,
  ];
}

export function resultIn(document: unknown): VolumeResult {
  const { reached, keptAt } = document as { reached?: Partial<Reached>; keptAt?: string };
  if (typeof reached?.lsn === "string" && typeof reached.timeline === "number") {
    const { lsn, timeline, time } = reached;
    return {
      reached: { lsn, timeline, ...(time === undefined ? {} : { time }) },
      ...(keptAt === undefined ? {} : { keptAt }),
    };
  }
  throw new PgkitError("kube-failed", "the Job of the restore does not say what recovery reached", {
    hint: "is the image of the CronJobs of the same version as this pgkit?",
  });
}
