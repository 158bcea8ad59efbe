import type { RestoreContext, Step } from "../facts.ts";
import { assertPausable, findSync, isPaused, pauseSync, resumeSync, type Sync, syncText } from "../gitops.ts";
import { serverNow } from "../pods.ts";

/** What manages the StatefulSet is kept from scaling it up while it must be down. */
export const pauseGitopsStep: Step<Sync, undefined> = {
  name: "pause-gitops",
  does: "pauses what keeps the StatefulSet in step with Git",
  check: async ({ kube, signal, hasBegun }, sync) => {
    if (sync === undefined) return "todo";
    if (hasBegun("resume-gitops")) return "done";
    return (await isPaused(kube, sync, signal)) ? "done" : "partial";
  },
  prepare: async (context) => {
    const { kube, restore, signal } = context;
    const sync = await findSync(kube, await serverNow(context), signal);
    assertPausable(sync, `StatefulSet ${restore.namespace}/${restore.statefulSet}`, restore.overrideGitops);
    return sync;
  },
  run: async (context, sync) => {
    await pause(context, sync);
    return undefined;
  },
  verify: async () => undefined,
  undo: async (context, sync) => {
    if (sync !== undefined) await resume(context, sync);
  },
};

/** As it was before: the last step, and the first to be undone. */
export const resumeGitopsStep: Step<undefined, undefined> = {
  name: "resume-gitops",
  does: "lets it go on",
  check: async ({ kube, signal, planOf }) => {
    const sync = planOf(pauseGitopsStep);
    if (sync === undefined || sync.type === "none" || sync.type === "unknown") return "done";
    return (await isPaused(kube, sync, signal)) ? "todo" : "done";
  },
  run: async (context) => {
    const sync = context.planOf(pauseGitopsStep);
    if (sync !== undefined) await resume(context, sync);
    return undefined;
  },
  verify: async () => undefined,
  undo: async (context) => {
    const sync = context.planOf(pauseGitopsStep);
    if (sync !== undefined) await pause(context, sync);
  },
};

async function pause({ kube, clock, report, signal }: RestoreContext, sync: Sync): Promise<void> {
  const what = syncText(sync);
  if (what !== undefined) report({ type: "note", message: `pausing ${what}` });
  await pauseSync(kube, sync, clock, signal);
}

async function resume({ kube, report, signal }: RestoreContext, sync: Sync): Promise<void> {
  const what = syncText(sync);
  if (what !== undefined) report({ type: "note", message: `${what} goes on` });
  await resumeSync(kube, sync, signal);
}
