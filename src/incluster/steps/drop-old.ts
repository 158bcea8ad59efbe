import { PgkitError } from "../../lib/errors.ts";
import type { Step } from "../facts.ts";
import { jobName, keptName } from "../names.ts";
import { serverNow, serverPod } from "../pods.ts";
import { removeJob, runBeside } from "../run-volume-job.ts";
import { snapshotRef } from "./keep-old.ts";
import { outputWords } from "./restore-volume.ts";

/** What was kept is removed: there is no way back from here. */
export const dropOldStep: Step<undefined, undefined> = {
  name: "drop-old-data",
  does: "removes the old data that was kept, and the Jobs of the restore",
  check: async ({ resultOf, hasBegun }) =>
    resultOf(dropOldStep) === undefined && !hasBegun("drop-old-data") ? "todo" : "partial",
  run: async (context) => {
    const { restore, kube, signal } = context;
    if (restore.keepOld === "snapshot") {
      await kube.delete(snapshotRef(context), {}, signal);
    } else {
      const node = (await serverPod(context, await serverNow(context)))?.spec?.nodeName;
      if (node === undefined) {
        throw new PgkitError(
          "kube-failed",
          `the server of ${restore.instance} does not run: its volume is on no node`,
          {
            hint: "when it runs again, run the same command again",
          },
        );
      }
      const words = [
        "restore",
        "--data-dir",
        restore.volume.dataDir,
        "--drop-aside",
        keptName(restore),
        ...outputWords,
      ];
      await runBeside(context, words, node);
    }
    for (const does of ["restore", "base", "drop"] as const) {
      await removeJob(context, { metadata: { name: jobName(restore, does), namespace: restore.namespace } });
    }
    return undefined;
  },
  verify: async () => undefined,
  undo: async () => undefined,
};
