import { isPgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import { type Block, blockOf, noop } from "./block.ts";
import type { StepEntry, StepRecord } from "./journal.ts";

/**
 * A step. The engine calls, in this order: `check`; where it is not done `prepare`, then journals the plan, `run`, `verify`,
 * and journals the result. Killed anywhere, the next run begins with `check` again; so `check` and `run` must understand
 * whatever a cut `run` left. On the way back the engine calls `undo` of each step that has begun, in reverse order, with
 * what is known of it.
 *
 * `Plan` and `Result` are JSON, hold no secret, and are all that a step may remember.
 */
export interface SagaStep<Context, Plan = unknown, Result = unknown> {
  /** Its key in the journal: never renamed once released. */
  readonly name: string;
  /** One sentence for `--dry-run`, such as `copies the roles that the database needs`. */
  readonly does: string;
  /** True: from its beginning to its undoing, or to the step that opens, the application cannot write. */
  readonly blocks?: true;
  /** Asks the world, not the journal. `partial`: begun; `run` goes on with it. */
  check(context: Context, plan: Plan | undefined): Promise<"todo" | "partial" | "done">;
  /** What must be known before `run`, and to undo it after a kill in its middle: such as a setting's former value. */
  prepare?(context: Context): Promise<Plan>;
  run(context: Context, plan: Plan): Promise<Result>;
  /** Fails where the world is not as the result says. */
  verify(context: Context, result: Result): Promise<void>;
  /** Safe after a `run` cut anywhere, before `run`, and twice: then `check` says `todo`. */
  undo(context: Context, plan: Plan | undefined, result: Result | undefined): Promise<void>;
}

/** Ends without having done anything. */
export type EndGuard = () => void;

/** Steps of which one blocks the application name, too, what lifts such a block. */
export interface Saga<Context> {
  readonly steps: readonly SagaStep<Context>[];
  readonly journal: {
    readonly steps: ReadonlyMap<string, StepEntry>;
    append(record: StepRecord): Promise<void>;
    /** Known to this process at once; on the disk with what is appended next. */
    later(record: StepRecord): void;
  };
  /** A context whose work ends with this signal. */
  contextFor(signal: AbortSignal): Context;
  /** The step after which nothing is blocked any more. */
  readonly opens?: string;
  /** The step that decides whose turn it is: once it is done the way out of a block is forward. */
  readonly decides?: string;
  /** True: the steps of the block can be planned before it begins, so that it does not last for that. */
  readonly plansAhead?: boolean;
  /** The longest that a block may last. */
  readonly maxBlockMs?: number | undefined;
  /** Starts what lets the application in again should this process be killed while it blocks it. */
  startGuard?(): EndGuard;
  readonly clock: Clock;
  readonly report: Report;
  readonly signal: AbortSignal;
}

/**
 * Does what is not done yet, in order: check, prepare, plan into the journal, run, verify, result into the journal. A
 * failure inside the block lifts it, by undoing every step since it began, before the failure is told; one outside leaves
 * what is done. Killed anywhere, the same call goes on; a block in which it was killed is ended first, since nobody
 * knows what was written after its deadline.
 */
export async function goForward<Context>(saga: Saga<Context>): Promise<void> {
  await endBlock(saga);
  const block = blockOf(saga);
  try {
    for (const step of saga.steps) {
      if (step.blocks === true && saga.plansAhead === true) await planAhead(saga, step, block);
      await forward(saga, step, block);
    }
  } catch (error) {
    block.end();
    // Who has lost the journal has no say any more: the other runner lifts the block, or goes on in it.
    // What fails in that is told as the failure of its step.
    if (isBlocked(saga) && !isPgkitError(error, "locked")) await undoBlock(saga, block.plans);
    throw error;
  } finally {
    block.end();
  }
}

/**
 * Undoes every step that has begun, in reverse order. Where that fails while the application is blocked, it is let in again
 * before the failure is told: at the target as long as it still belongs there, else at the source.
 */
export async function goBack<Context>(saga: Saga<Context>): Promise<void> {
  const block = blockOf(saga);
  const blocking = saga.steps.find(({ blocks }) => blocks === true);
  try {
    for (const step of saga.steps.toReversed()) {
      if (!saga.journal.steps.has(step.name)) continue;
      if (step.name === saga.opens) block.begin();
      await back(saga, step, block.signal);
      if (step === blocking) await block.finish();
    }
  } catch (error) {
    block.end();
    if (!isPgkitError(error, "locked")) await endBlock(saga);
    throw error;
  } finally {
    block.end();
  }
}

/** True from the block's beginning until the step that opens is done, as the journal has it. */
export function isBlocked<Context>({ steps, journal, opens }: Pick<Saga<Context>, "steps" | "journal" | "opens">) {
  const begun = steps.some(({ blocks, name }) => blocks === true && journal.steps.has(name));
  return begun && (opens === undefined || journal.steps.get(opens)?.isDone !== true);
}

/**
 * Undoes the steps of a block that is not to go on, so that the application works where it was. What fails on the way, such
 * as a target that is down, stays for a later rollback and keeps nobody from the source; unless the target may be open.
 * What this run had only planned is not undone. Gives what failed.
 */
async function undoBlock<Context>(saga: Saga<Context>, onlyPlanned: Block["plans"] = new Map()): Promise<unknown[]> {
  saga.report({ type: "note", message: "lifting the block: the application goes on where it was" });
  const begins = saga.steps.findIndex(({ blocks }) => blocks === true);
  const ends = saga.steps.findIndex(({ name }) => name === saga.opens);
  const failures: unknown[] = [];
  for (const step of saga.steps.slice(begins, ends + 1).toReversed()) {
    if (!saga.journal.steps.has(step.name)) continue;
    if (onlyPlanned.has(step.name)) {
      saga.journal.later({ type: "undone", step: step.name });
      continue;
    }
    try {
      await back(saga, step, new AbortController().signal);
    } catch (error) {
      failures.push(error);
      if (step.name === saga.opens || isPgkitError(error, "locked")) break;
    }
  }
  return failures;
}

/**
 * After a run that was killed or failed in a block: lets the application in where it is pointed at now. Changes nothing where
 * nothing is blocked. Fails with what kept it from that.
 */
export async function endBlock<Context>(saga: Saga<Context>): Promise<void> {
  const { steps, journal, report } = saga;
  const [deciding, opening] = [saga.decides, saga.opens].map((wanted) => steps.find(({ name }) => name === wanted));
  if (deciding === undefined || opening === undefined) return;
  const { signal } = new AbortController();
  const block = { signal, plans: new Map(), begin: noop, finish: async () => noop(), end: noop };
  const context = saga.contextFor(block.signal);
  if (!isBlocked(saga)) {
    // A way back that was cut may have closed the target, and not yet said so.
    const opened = journal.steps.get(opening.name);
    if (opened === undefined || (await opening.check(context, opened.plan)) === "done") return;
  }
  if ((await deciding.check(context, journal.steps.get(deciding.name)?.plan)) === "todo") {
    const [failure] = await undoBlock(saga);
    if (failure !== undefined) throw failure;
    return;
  }
  report({ type: "note", message: "opening the target: the application goes on there" });
  await forward(saga, deciding, block);
  await forward(saga, opening, block);
}

async function forward<Context>(saga: Saga<Context>, step: SagaStep<Context>, block: Block): Promise<void> {
  const { journal, clock, report } = saga;
  if (step.blocks === true) block.begin();
  const context = saga.contextFor(block.signal);
  const entry = journal.steps.get(step.name);
  const isDone = entry?.isDone === true && (await step.check(context, entry.plan)) === "done";
  block.signal.throwIfAborted();
  if (!isDone) {
    const startedMs = clock.monotonicMs();
    const task = step.name;
    report({ type: "start", task });
    try {
      const plan = entry === undefined ? await planned(saga, step, context, block) : entry.plan;
      block.plans.delete(step.name);
      const result = await step.run(context, plan);
      block.signal.throwIfAborted();
      await step.verify(context, result);
      const record = { type: "result", step: step.name, ...(result === undefined ? {} : { result }) } as const;
      // Within a block it waits for the next record that must be there: killed before that, the block is undone.
      if (isWithin(saga, step, saga.opens)) journal.later(record);
      else await journal.append(record);
    } catch (error) {
      const told = block.signal.aborted ? block.signal.reason : error;
      report({ type: "failed", task, message: told instanceof Error ? told.message : String(told) });
      throw told;
    }
    report({ type: "done", task, seconds: (clock.monotonicMs() - startedMs) / 1000, summary: step.does });
  }
  if (step.name === saga.opens) await block.finish();
}

async function planned<Context>(
  saga: Saga<Context>,
  step: SagaStep<Context>,
  context: Context,
  { plans }: Block,
): Promise<unknown> {
  const plan = plans.has(step.name) ? plans.get(step.name) : await step.prepare?.(context);
  await saga.journal.append(planRecord(step, plan));
  return plan;
}

/**
 * Plans the steps from the block's first one on, while nobody waits for them. They are journaled at once, before anything
 * is blocked: all of them are undone after a kill. The plan of the step that decides is written when its turn comes, with
 * the results so far: from then on they are needed.
 */
async function planAhead<Context>(saga: Saga<Context>, first: SagaStep<Context>, { plans }: Block): Promise<void> {
  const context = saga.contextFor(saga.signal);
  for (const step of saga.steps.slice(saga.steps.indexOf(first))) {
    if (step.name === saga.opens) break;
    if (!saga.journal.steps.has(step.name)) plans.set(step.name, await step.prepare?.(context));
  }
  const records = saga.steps.flatMap((step) =>
    plans.has(step.name) && step.name !== saga.decides ? [planRecord(step, plans.get(step.name))] : [],
  );
  const last = records.pop();
  for (const record of records) saga.journal.later(record);
  if (last !== undefined) await saga.journal.append(last);
}

function planRecord({ name }: { name: string }, plan: unknown) {
  return { type: "plan", step: name, ...(plan === undefined ? {} : { plan }) } as const;
}

/** True for the steps from the block's beginning up to this one, without it. */
function isWithin<Context>({ steps }: Saga<Context>, step: SagaStep<Context>, end: string | undefined): boolean {
  if (end === undefined) return false;
  const at = steps.indexOf(step);
  return at >= steps.findIndex(({ blocks }) => blocks === true) && at < steps.findIndex(({ name }) => name === end);
}

async function back<Context>(saga: Saga<Context>, step: SagaStep<Context>, signal: AbortSignal): Promise<void> {
  const entry = saga.journal.steps.get(step.name);
  const startedMs = saga.clock.monotonicMs();
  const task = `undo ${step.name}`;
  saga.report({ type: "start", task });
  try {
    await step.undo(saga.contextFor(signal), entry?.plan, entry?.result);
    const record = { type: "undone", step: step.name } as const;
    // What lies between the two is undone once more where the record of it is lost with this process.
    const canWait = step.blocks !== true && isWithin(saga, step, saga.decides);
    if (canWait) saga.journal.later(record);
    else await saga.journal.append(record);
  } catch (error) {
    const told = signal.aborted ? signal.reason : error;
    saga.report({ type: "failed", task, message: told instanceof Error ? told.message : String(told) });
    throw told;
  }
  saga.report({ type: "done", task, seconds: (saga.clock.monotonicMs() - startedMs) / 1000 });
}
