import { PgkitError } from "../../lib/errors.ts";
import { parseLsn } from "../../lib/lsn.ts";
import { readManifest } from "../../repo/backups.ts";
import type { Manifest } from "../../repo/manifest.ts";
import type { Step } from "../facts.ts";
import { jobName } from "../names.ts";
import { removeJob, runBaseBackup } from "../run-volume-job.ts";
import { restoreVolumeStep } from "./restore-volume.ts";

/** A new history begins here; and it is proof that pgkit reaches the server, and what it is. */
export const baseBackupStep: Step<undefined, string> = {
  name: "base-backup",
  does: "takes a new base backup in a Job, and checks that it is of what was restored",
  check: async ({ resultOf }) => (resultOf(baseBackupStep) === undefined ? "todo" : "done"),
  run: async (context) => idIn(await runBaseBackup(context)),
  verify: async ({ repository, restore, resultOf, signal }, id) => {
    const { server, base } = await readManifest(repository, { instance: restore.instance, id }, { signal });
    const reached = resultOf(restoreVolumeStep)?.reached;
    const fits =
      server.systemId === restore.systemId && base !== undefined && (reached === undefined || isLater(base, reached));
    if (fits) return;
    const message = `base backup ${id} is not of what was restored: system id ${server.systemId}, timeline ${base?.timeline}, from ${base?.startLsn}`;
    throw new PgkitError("verification-failed", message, {
      hint: "does the configuration in the cluster lead to this StatefulSet? --rollback puts the old data back",
    });
  },
  undo: async (context) => {
    const { restore } = context;
    await removeJob(context, { metadata: { name: jobName(restore, "base"), namespace: restore.namespace } });
  },
};

function isLater(base: NonNullable<Manifest["base"]>, reached: { lsn: string; timeline: number }): boolean {
  return base.timeline >= reached.timeline && parseLsn(base.startLsn) >= parseLsn(reached.lsn);
}

function idIn(document: unknown): string {
  const { backups } = document as { backups?: readonly { id?: string }[] };
  const id = backups?.[0]?.id;
  if (id !== undefined) return id;
  throw new PgkitError("kube-failed", "the Job of the base backup does not say which one it made", {
    hint: "is the image of the CronJobs of the same version as this pgkit?",
  });
}
