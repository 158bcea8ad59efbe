import type { SagaStep } from "../saga/saga.ts";
import type { MoveContext, MoveFacts } from "./step.ts";
import { backUpStep } from "./steps/back-up.ts";
import { blockWritesStep } from "./steps/block-writes.ts";
import { buildIndexesStep } from "./steps/build-indexes.ts";
import { catchUpStep } from "./steps/catch-up.ts";
import { cleanUpStep } from "./steps/clean-up.ts";
import { compareStep } from "./steps/compare.ts";
import { compareStructureStep } from "./steps/compare-structure.ts";
import { confirmFeedStep } from "./steps/confirm-feed.ts";
import { copyDataStep } from "./steps/copy-data.ts";
import { copyRolesStep } from "./steps/copy-roles.ts";
import { copySchemaStep } from "./steps/copy-schema.ts";
import { createDatabaseStep } from "./steps/create-database.ts";
import { drainStep } from "./steps/drain.ts";
import { finalBackupStep } from "./steps/final-backup.ts";
import { preflightStep } from "./steps/preflight.ts";
import { proveAgainStep } from "./steps/prove-again.ts";
import { replicateStep } from "./steps/replicate.ts";
import { reverseFeedStep } from "./steps/reverse-feed.ts";
import { sequencesStep } from "./steps/sequences.ts";
import { switchStep } from "./steps/switch.ts";
import { unblockStep } from "./steps/unblock.ts";
import { watchStep } from "./steps/watch.ts";

type AnyStep = SagaStep<MoveContext>;

const before = [preflightStep, backUpStep, copyRolesStep, createDatabaseStep];
const blocked = [confirmFeedStep, switchStep, unblockStep, watchStep];

/**
 * With writes blocked from `block-writes` on, for as long as it takes to carry over what was written last. The feed back
 * starts as soon as the one forward has stopped, so that its worker is there when it is looked for.
 */
const online = [
  ...before,
  ...[copySchemaStep, replicateStep, buildIndexesStep, compareStructureStep, catchUpStep, blockWritesStep, drainStep],
  ...[reverseFeedStep, sequencesStep, compareStep],
  ...blocked,
];

/** With writes blocked for the whole copy. The feed back gives tables a replica identity, which would be a difference. */
const offline = [
  ...before,
  ...[blockWritesStep, copySchemaStep, copyDataStep, buildIndexesStep],
  ...[sequencesStep, compareStep, reverseFeedStep],
  ...blocked,
];

/** The steps of a move, in order. */
export function stepsOf({ mode, options }: Pick<MoveFacts, "mode" | "options">): readonly AnyStep[] {
  const steps = mode === "online" ? online : offline;
  const back: readonly string[] = [reverseFeedStep.name, confirmFeedStep.name];
  return erased(steps.filter(({ name }) => options.reverseFeed || !back.includes(name)));
}

/** What `pgkit move finish` does. */
export const finishSteps: readonly AnyStep[] = erased([finalBackupStep, proveAgainStep, cleanUpStep]);

/** The engine hands each step's plan and result back to it as they were; it knows nothing of their types. */
function erased(steps: readonly { readonly name: string }[]): readonly AnyStep[] {
  return steps as unknown as readonly AnyStep[];
}
