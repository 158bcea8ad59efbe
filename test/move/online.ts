import type { Step } from "../../src/move/step.ts";
import { blockWritesStep } from "../../src/move/steps/block-writes.ts";
import { catchUpStep } from "../../src/move/steps/catch-up.ts";
import { confirmFeedStep } from "../../src/move/steps/confirm-feed.ts";
import { drainStep } from "../../src/move/steps/drain.ts";
import { replicateStep } from "../../src/move/steps/replicate.ts";
import { reverseFeedStep } from "../../src/move/steps/reverse-feed.ts";
import { sequencesStep } from "../../src/move/steps/sequences.ts";
import { unblockStep } from "../../src/move/steps/unblock.ts";
import { identifier } from "../../src/postgres/quote.ts";
import { application, type MoveClusters, makeApplication, makeEmptyTarget, type TestMove } from "./support.ts";

/**
 * Gives the application's database on both servers again and again, each under a name of its own: copies of one that is
 * made here, which is much quicker than the statements.
 */
export async function applicationDatabases({ source, target }: MoveClusters): Promise<() => Promise<string>> {
  await Promise.all([makeApplication(source, "original"), makeEmptyTarget(target, "original")]);
  let made = 0;
  return async () => {
    made += 1;
    const name = `App "${made}"`;
    const create = (limit: number) =>
      `CREATE DATABASE ${identifier(name)} TEMPLATE original OWNER ${application.user} CONNECTION LIMIT ${limit}`;
    await Promise.all([source.psql(create(20)), target.psql(create(0))]);
    return name;
  };
}

/** The steps of an online move that carry rows, in their order, as the engine sees them: of any plan and result. */
export const onlineSteps = [
  replicateStep,
  catchUpStep,
  blockWritesStep,
  drainStep,
  reverseFeedStep,
  sequencesStep,
  confirmFeedStep,
  unblockStep,
] as unknown as readonly Step[];

/** Runs the steps before this one. */
export async function runBefore(move: TestMove, last: { name: string }): Promise<void> {
  const end = onlineSteps.findIndex(({ name }) => name === last.name);
  const back: readonly string[] = move.context.move.options.reverseFeed
    ? []
    : [reverseFeedStep.name, confirmFeedStep.name];
  for (const step of onlineSteps.slice(0, end)) if (!back.includes(step.name)) await move.run(step);
}

/** Runs the steps up to this one, it included. */
export async function runThrough(move: TestMove, last: { name: string }): Promise<void> {
  await runBefore(move, last);
  const step = onlineSteps.find(({ name }) => name === last.name);
  if (step !== undefined) await move.run(step);
}

/** Undoes all steps that have begun, in reverse order, as a rollback does. */
export async function undoAll(move: TestMove): Promise<void> {
  for (const step of onlineSteps.toReversed()) {
    if (move.plans.has(step.name)) await move.undo(step);
  }
}
