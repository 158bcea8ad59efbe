import { isPgkitError, PgkitError } from "../lib/errors.ts";
import type { Repository } from "../repo/repository.ts";
import { beginJournal, type Runner, takeUpJournal } from "../saga/journal.ts";
import { goBack, goForward, type Saga, type SagaStep } from "../saga/saga.ts";
import type { RestoreContext, VolumeRestoreFacts } from "./facts.ts";
import {
  type FoundRestore,
  findRestore,
  isOver,
  journalKind,
  type RestoreJournal,
  type RestoreState,
  restoresOf,
} from "./journal.ts";
import { finishSteps, stepsOf } from "./steps.ts";

/** What a run of a restore is done with. */
export type RestoreWorld = Omit<RestoreContext, "restore" | "planOf" | "resultOf" | "hasBegun"> & {
  readonly runner: Runner;
};

/**
 * Begins a restore and goes on until the server is up on what was restored, and backed up. Fails with `locked` where another run
 * begins at the same time, with `restore-stopped` (exit status 50) where it can be resumed or rolled back.
 */
export async function startRestore(facts: VolumeRestoreFacts, world: RestoreWorld): Promise<RestoreJournal> {
  const { repository, runner, clock } = world;
  await assertNoneUnderWay(repository, facts, world.signal);
  const journal = await beginJournal(journalKind, repository, facts, runner, { clock });
  await yieldToOthers(world, journal);
  return told(journal, () => throughSteps(journal, world, goForward), "restored");
}

/** Goes on with a restore that stopped or was killed: forward, or back where it was on its way back. */
export async function resumeRestore(found: FoundRestore, world: RestoreWorld): Promise<RestoreJournal> {
  if (found.journal.state === "rolling-back") return rollBackRestore(found, world);
  if (found.journal.state === "finishing") return finishRestore(found, world);
  const journal = await takeUp(found, world, "resume");
  await journal.append({ type: "state", state: "restoring" });
  return told(journal, () => throughSteps(journal, world, goForward), "restored");
}

/** Undoes every step: the old data is where it was, and the server is up on it. */
export async function rollBackRestore(found: FoundRestore, world: RestoreWorld): Promise<RestoreJournal> {
  assertNotOver(found);
  if (found.journal.state === "finishing") {
    const { instance } = found.journal.facts;
    throw new PgkitError("usage", `the restore of ${instance} is being finished: the old data may be gone`, {
      hint: "--finish ends it",
    });
  }
  const journal = await takeUp(found, world, "rollback");
  await journal.append({ type: "state", state: "rolling-back" });
  return told(journal, () => throughSteps(journal, world, goBack), "rolled-back");
}

/** Removes the old data. No way back from here. */
export async function finishRestore(found: FoundRestore, world: RestoreWorld): Promise<RestoreJournal> {
  assertNotOver(found);
  const { state, facts } = found.journal;
  if (state !== "restored" && state !== "finishing") {
    throw new PgkitError("usage", `the restore of ${facts.instance} is not done: it is ${state}`, {
      hint: "the same command without --finish goes on with it, --rollback goes back",
    });
  }
  const journal = await takeUp(found, world, "finish");
  await journal.append({ type: "state", state: "finishing" });
  return told(journal, () => throughSteps(journal, world, goForward, finishSteps), "finished");
}

async function assertNoneUnderWay(
  repository: Repository,
  { instance }: VolumeRestoreFacts,
  signal: AbortSignal,
): Promise<void> {
  const former = await findRestore(repository, instance, { signal });
  if (former === undefined || isOver(former.journal.state)) return;
  const { state, facts } = former.journal;
  throw new PgkitError("restore-refused", `a restore of ${instance} to ${facts.target} is ${state} already`, {
    hint: "the same command as then goes on with it; --rollback undoes it, --finish removes the old data",
  });
}

/** Two runs that begin at the same moment do not know of each other before: who sees another gives way. */
async function yieldToOthers({ repository, signal }: RestoreWorld, journal: RestoreJournal): Promise<void> {
  const { instance, id } = journal.facts;
  for (const other of await restoresOf(repository, instance, { signal })) {
    if (other.journal.facts.id === id || isOver(other.journal.state)) continue;
    const message = `another pgkit has begun a restore of ${instance} at the same time`;
    await journal.append({ type: "state", state: "rolled-back", message });
    throw new PgkitError("locked", message, { hint: `pgkit restore --in-kubernetes ${instance} --status shows it` });
  }
}

async function takeUp(found: FoundRestore, { repository, runner, clock }: RestoreWorld, does: string) {
  assertNotOver(found);
  return takeUpJournal(journalKind, repository, found, does, runner, { clock });
}

async function throughSteps(
  journal: RestoreJournal,
  world: RestoreWorld,
  go: (saga: Saga<RestoreContext>) => Promise<void>,
  steps: readonly SagaStep<RestoreContext>[] = stepsOf(journal.facts),
): Promise<void> {
  const { clock, report, signal } = world;
  await go({ steps, journal, contextFor: (limit) => contextOf(world, journal, limit), clock, report, signal });
}

/** What the steps of a restore work with, for as long as this signal lasts. */
export function contextOf(
  { runner: _, ...world }: RestoreWorld,
  journal: Pick<RestoreJournal, "facts" | "steps">,
  signal: AbortSignal,
): RestoreContext {
  return {
    ...world,
    restore: journal.facts,
    signal,
    // The journal holds what the step of this name has given, which is of the step's own type.
    planOf: <P>({ name }: { readonly name: string }) => journal.steps.get(name)?.plan as P | undefined,
    resultOf: <R>({ name }: { readonly name: string }) => journal.steps.get(name)?.result as R | undefined,
    hasBegun: (step) => journal.steps.has(step),
  };
}

/** Records how a run ended, and tells a failure as what it is for the user: a restore that stopped. */
async function told(journal: RestoreJournal, run: () => Promise<void>, done: RestoreState): Promise<RestoreJournal> {
  try {
    await run();
    await journal.append({ type: "state", state: done });
    return journal;
  } catch (error) {
    if (isPgkitError(error, "locked")) throw error;
    const message = error instanceof Error ? error.message : String(error);
    const hasChanged = ["pause-gitops", "scale-down"].some((step) => journal.steps.has(step));
    if (!hasChanged && done === "restored") {
      await journal.append({ type: "state", state: "rolled-back", message });
      throw error;
    }
    const stays = journal.state === "rolling-back" || journal.state === "finishing";
    await journal.append({ type: "state", state: stays ? journal.state : "stopped", message });
    throw stopped(journal, error, message);
  }
}

function stopped({ facts: { instance }, steps, state }: RestoreJournal, error: unknown, message: string): unknown {
  if (!isPgkitError(error)) return error;
  const last = [...steps.keys()].at(-1) ?? "its beginning";
  const goOn =
    state === "rolling-back"
      ? "--rollback again goes on back"
      : "the same command again goes on, --rollback puts everything back";
  const hint = error.hint === undefined ? goOn : `${error.hint}; then ${goOn}`;
  if (isPgkitError(error, "cancelled")) return new PgkitError("cancelled", message, { hint, cause: error });
  const text = `the restore of ${instance} stopped at ${last}: ${message}`;
  return new PgkitError("restore-stopped", text, { hint, cause: error });
}

function assertNotOver({ journal: { state, facts } }: FoundRestore): void {
  if (!isOver(state)) return;
  throw new PgkitError("restore-missing", `no restore of ${facts.instance} is under way: the last one is ${state}`, {
    hint: `pgkit restore --in-kubernetes ${facts.instance} --to-time T begins one`,
  });
}
