import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { compactTime } from "../lib/time.ts";
import { serverFacts } from "../postgres/server-facts.ts";
import { withSession } from "../postgres/session.ts";
import { endBlock, goBack, goForward, type Saga, type SagaStep } from "../saga/saga.ts";
import { type MoveWorld, moveContext } from "./context.ts";
import { exclusively } from "./exclusive.ts";
import { startGuard } from "./guard.ts";
import {
  beginJournal,
  type FoundMove,
  findMove,
  type Journal,
  type MoveState,
  type Runner,
  takeUpJournal,
} from "./journal.ts";
import { sessionPool } from "./sessions.ts";
import type { MoveContext, MoveFacts, MoveOptions, MoveServer } from "./step.ts";
import { finishSteps, stepsOf } from "./steps.ts";

export interface MoveRequest {
  readonly application: string | undefined;
  readonly database: string;
  readonly mode: MoveFacts["mode"];
  readonly options: MoveOptions;
}

/** What a run of a move is done with. */
export interface MoveRun {
  readonly world: MoveWorld;
  readonly runner: Runner;
  readonly signal: AbortSignal;
  /** The words that run `pgkit move unblock` for this move. */
  readonly unblockWords: readonly string[];
  /** In place of what the move began with. */
  readonly maxBlockMs?: number | undefined;
}

/**
 * Begins a move and goes on until the application is switched. Fails with `move-refused` before anything is changed, with
 * `move-stopped` (exit status 50) where it can be resumed or rolled back, with `move-rolled-back` where it went back by itself, with
 * `proof-failed` where source and target differ.
 */
export async function startMove(request: MoveRequest, run: MoveRun): Promise<Journal> {
  const { world, runner, signal } = run;
  const facts = await factsOf(request, world, signal);
  return exclusively([world.source, world.target], facts.database, signal, async (held) => {
    const former = await findMove(world.repository, { database: facts.database }, { signal: held });
    if (former !== undefined && !isOver(former.journal.state)) throw underWay(former);
    const journal = await beginJournal(world.repository, facts, runner, { clock: world.clock });
    return throughOrBack(journal, { ...run, signal: held });
  });
}

/** Goes on with a move that stopped or was killed: forward, or back where it was on its way back. */
export async function resumeMove(found: FoundMove, run: MoveRun): Promise<Journal> {
  if (found.journal.state === "rolling-back") return rollBackMove(found, run);
  if (found.journal.state === "finishing") return finishMove(found, run);
  assertNotOver(found);
  return takeUp(found, run, "resume", async (journal, signal) => {
    await journal.append({ type: "state", state: "moving" });
    return throughOrBack(journal, { ...run, signal });
  });
}

/** Undoes a move: before the switch without a trace, after it with every write that the application made since. */
export async function rollBackMove(found: FoundMove, run: MoveRun): Promise<Journal> {
  assertNotOver(found);
  const { state, facts, steps } = found.journal;
  if (state === "finishing") {
    throw new PgkitError("usage", `the move of ${facts.database} is being finished: the old database may be gone`, {
      hint: "pgkit move resume ends it; a new pgkit move brings the database back",
    });
  }
  if (steps.has("unblock") && !facts.options.reverseFeed) {
    throw new PgkitError("usage", `the move of ${facts.database} has no way back: it was made without a reverse feed`, {
      hint: `move it back as it came: pgkit move ${facts.database} --to ${facts.source.instance} --offline`,
    });
  }
  return takeUp(found, run, "rollback", async (journal, signal) => {
    await journal.append({ type: "state", state: "rolling-back" });
    return told(journal, () => throughSteps(journal, { ...run, signal }, goBack), "rolled-back");
  });
}

/**
 * After a run that was killed while it blocked the application: lets it in again, where it is pointed at, and does nothing
 * else. A move that was killed starts this by itself.
 */
export async function unblockMove(found: FoundMove, run: MoveRun): Promise<Journal> {
  assertNotOver(found);
  return takeUp(found, run, "unblock", async (journal, signal) => {
    await throughSteps(journal, { ...run, signal }, endBlock);
    if (journal.state === "moving") {
      const message = "the run before was killed; the application was let in again";
      await journal.append({ type: "state", state: "stopped", message });
    }
    return journal;
  });
}

/** Completes a move: a last backup, what is left of the proof, and then the old database is dropped. No way back from here. */
export async function finishMove(found: FoundMove, run: MoveRun): Promise<Journal> {
  assertNotOver(found);
  const { state, facts } = found.journal;
  if (state !== "switched" && state !== "finishing") {
    throw new PgkitError("usage", `the move of ${facts.database} is not done: it is ${state}`, {
      hint: "pgkit move resume goes on with it, pgkit move rollback goes back",
    });
  }
  return takeUp(found, run, "finish", async (journal, signal) => {
    await journal.append({ type: "state", state: "finishing" });
    return told(journal, () => throughSteps(journal, { ...run, signal }, goForward, finishSteps), "finished");
  });
}

/** True for a move that nothing can be done with any more. */
export function isOver(state: MoveState): boolean {
  return state === "rolled-back" || state === "finished";
}

/** A context of steps for a move that has not begun: for a plan. Close the sessions. */
export async function planContext(request: MoveRequest, world: MoveWorld, signal: AbortSignal) {
  const facts = await factsOf(request, world, signal);
  const sessions = sessionPool(world);
  return { context: moveContext(world, { facts, steps: new Map() }, sessions, signal), close: sessions.close };
}

async function takeUp(
  found: FoundMove,
  { world, runner, signal }: MoveRun,
  does: string,
  go: (journal: Journal, signal: AbortSignal) => Promise<Journal>,
): Promise<Journal> {
  const { facts } = found.journal;
  for (const side of ["source", "target"] as const) await assertSameServer(facts[side], world[side], signal);
  return exclusively([world.source, world.target], facts.database, signal, async (held) => {
    // Whoever held the locks before us may have gone on with it.
    const latest = await findMove(world.repository, { database: facts.database, instance: facts.source.instance });
    const now = latest?.folder === found.folder ? latest : found;
    assertNotOver(now);
    return go(await takeUpJournal(world.repository, now, does, runner, { clock: world.clock }), held);
  });
}

async function throughSteps(
  journal: Journal,
  { world, signal, unblockWords, maxBlockMs = journal.facts.options.maxBlockMs }: MoveRun,
  go: (saga: Saga<MoveContext>) => Promise<void>,
  steps: readonly SagaStep<MoveContext>[] = stepsOf(journal.facts),
): Promise<void> {
  const sessions = sessionPool(world);
  try {
    await go({
      ...{ steps, journal, signal },
      contextFor: (limit) => moveContext(world, journal, sessions, limit),
      opens: "unblock",
      decides: "switch",
      // Offline, what is blocked for is the copy, and what comes after it cannot be planned before.
      plansAhead: journal.facts.mode === "online",
      maxBlockMs,
      startGuard: () => startGuard(unblockWords, world.report),
      clock: world.clock,
      report: world.report,
    });
  } finally {
    await sessions.close();
  }
}

/**
 * Where the application does not become ready at the target it would stay away until somebody comes: it is led back, with all
 * that was written there. Not through Git, where somebody has to commit first.
 */
async function throughOrBack(journal: Journal, run: MoveRun): Promise<Journal> {
  const { facts } = journal;
  const { autoRollback, reverseFeed, gitopsOut, overrideGitops } = facts.options;
  const goesBack = autoRollback === true && reverseFeed && (gitopsOut === undefined || overrideGitops === true);
  try {
    return await told(journal, () => throughSteps(journal, run, goForward), "switched");
  } catch (error) {
    const cause = error instanceof Error ? error.cause : undefined;
    if (!goesBack || !isPgkitError(cause, "not-ready") || run.signal.aborted) throw error;
    run.world.report({ type: "warning", message: `${cause.message}; going back`, hint: cause.hint });
    await journal.append({ type: "state", state: "rolling-back" });
    await told(journal, () => throughSteps(journal, run, goBack), "rolled-back", cause.message);
    const there = await awayToo(run);
    const message = `the move of ${facts.database} went back to ${facts.source.instance} by itself: ${cause.message}${there}`;
    throw new PgkitError("move-rolled-back", message, {
      hint: `${cause.hint ?? "see why"}; nothing that was written is lost; --rollout-timeout allows longer`,
      cause,
    });
  }
}

/** What of the application is not ready where it was led back to either; empty where all is. */
async function awayToo({ world, signal }: MoveRun): Promise<string> {
  try {
    for (const switcher of world.switchers) await switcher.settle?.(signal);
    return "";
  } catch (error) {
    // It has gone back all the same: this is said besides.
    if (!isPgkitError(error) || signal.aborted) throw error;
    return `; back there: ${error.message}`;
  }
}

/** Records how a run ended, and tells a failure as what it is for the user: a move that stopped. */
async function told(journal: Journal, run: () => Promise<void>, done: MoveState, why?: string): Promise<Journal> {
  try {
    await run();
    await journal.append({ type: "state", state: done, ...(why === undefined ? {} : { message: why }) });
    return journal;
  } catch (error) {
    if (isPgkitError(error, "locked")) throw error;
    const message = error instanceof Error ? error.message : String(error);
    if (isPgkitError(error, "move-refused") && done === "switched") {
      await journal.append({ type: "state", state: "rolled-back", message });
      throw error;
    }
    const stays = journal.state === "rolling-back" || journal.state === "finishing";
    await journal.append({ type: "state", state: stays ? journal.state : "stopped", message });
    throw stopped(journal, error, message);
  }
}

function stopped({ facts, steps }: Journal, error: unknown, message: string): unknown {
  const last = [...steps.keys()].at(-1) ?? "its beginning";
  if (!isPgkitError(error)) return error;
  const goOn = `pgkit move resume ${facts.database} goes on, pgkit move rollback ${facts.database} goes back`;
  const hint = error.hint === undefined ? goOn : `${error.hint}; then ${goOn}`;
  if (isPgkitError(error, "proof-failed", "cancelled"))
    return new PgkitError(error.code, message, { hint, cause: error });
  const text = `the move of ${facts.database} stopped at ${last}: ${message}`;
  return new PgkitError("move-stopped", text, { hint, cause: error });
}

async function factsOf(request: MoveRequest, world: MoveWorld, signal: AbortSignal): Promise<MoveFacts> {
  const { clock } = world;
  const [source, target] = await Promise.all([sideOf(world.source, signal), sideOf(world.target, signal)]);
  if (source.systemId === target.systemId) {
    const message = `${source.instance} and ${target.instance} are the same server (system id ${source.systemId})`;
    throw new PgkitError("move-refused", message, { hint: "move it to another instance: is the target's url right?" });
  }
  const unique = Math.floor(clock.random() * 65_536)
    .toString(16)
    .padStart(4, "0");
  return { ...request, id: `${compactTime(clock.now())}-${unique}`, source, target };
}

async function sideOf({ instance, connection }: MoveServer, signal: AbortSignal): Promise<MoveFacts["source"]> {
  const { systemId, major, inRecovery } = await withSession(connection, { signal }, serverFacts);
  if (inRecovery) {
    throw new PgkitError("move-refused", `instance ${instance} is a standby`, { hint: "name its primary in the url" });
  }
  return { instance, systemId, major };
}

/** The journal speaks of this server; another one under its name must not be changed by it. */
async function assertSameServer(known: MoveFacts["source"], server: MoveServer, signal: AbortSignal): Promise<void> {
  const { systemId } = await sideOf(server, signal);
  if (systemId === known.systemId) return;
  const message = `instance ${known.instance} has the system id ${systemId}, and the move began with ${known.systemId}`;
  throw new PgkitError("system-mismatch", message, { hint: "the move cannot go on with another server" });
}

function assertNotOver({ journal }: FoundMove): void {
  if (!isOver(journal.state)) return;
  const { facts, state } = journal;
  throw new PgkitError("move-missing", `no move of ${facts.database} is under way: the last one is ${state}`, {
    hint: `pgkit move status ${facts.database} shows it`,
  });
}

function underWay({ journal: { facts, state } }: FoundMove): PgkitError {
  const { database, source, target } = facts;
  const message = `a move of ${database} from ${source.instance} to ${target.instance} is ${state} already`;
  return new PgkitError("move-refused", message, {
    hint: `pgkit move resume, rollback or finish ${database}; pgkit move status ${database} tells more`,
  });
}
