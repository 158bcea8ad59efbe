import type { SagaStep } from "../saga/saga.ts";
import type { RestoreContext, VolumeRestoreFacts } from "./facts.ts";
import { answersStep } from "./steps/answers.ts";
import { baseBackupStep } from "./steps/base-backup.ts";
import { dropOldStep } from "./steps/drop-old.ts";
import { keepOldStep } from "./steps/keep-old.ts";
import { pauseGitopsStep, resumeGitopsStep } from "./steps/pause-gitops.ts";
import { preflightStep } from "./steps/preflight.ts";
import { restoreVolumeStep } from "./steps/restore-volume.ts";
import { scaleDownStep, scaleUpStep } from "./steps/scale.ts";

type AnyStep = SagaStep<RestoreContext>;

/** The steps of a restore in a cluster, in order. */
export function stepsOf({ keepOld }: Pick<VolumeRestoreFacts, "keepOld">): readonly AnyStep[] {
  return erased([
    ...[preflightStep, pauseGitopsStep, scaleDownStep],
    ...(keepOld === "snapshot" ? [keepOldStep] : []),
    ...[restoreVolumeStep, scaleUpStep, answersStep, baseBackupStep, resumeGitopsStep],
  ]);
}

/** What `--finish` does. */
export const finishSteps: readonly AnyStep[] = erased([dropOldStep]);

/** The engine hands each step's plan and result back to it as they were; it knows nothing of their types. */
function erased(steps: readonly { readonly name: string }[]): readonly AnyStep[] {
  return steps as unknown as readonly AnyStep[];
}
