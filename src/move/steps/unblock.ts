import { PgkitError } from "../../lib/errors.ts";
import { parseLsn } from "../../lib/lsn.ts";
import { rfc3339 } from "../../lib/time.ts";
import { closeDatabase, connectionLimit, keepClosed, openDatabase } from "../close-database.ts";
import { isClosed } from "../gate.ts";
import { feedNames } from "../names.ts";
import { waitFedBack } from "../reverse-feed.ts";
import { refuseSchemaChanges } from "../schema-changes.ts";
import { carrySequences, sequenceStates } from "../sequences.ts";
import type { MoveContext, Step } from "../step.ts";
import { dropPublication, dropSubscription, subscriptionState } from "../subscription.ts";
import { blockWritesStep } from "./block-writes.ts";
import { reverseFeedStep } from "./reverse-feed.ts";

export interface UnblockPlan {
  /** The connection limit that the target gets: what the source had. That it is journaled says that the switch is over. */
  limit: number;
}

export interface UnblockResult {
  at: string;
}

/**
 * The application writes again, on the target; the source stays closed. Its undoing is the way back: what was written on
 * the target meanwhile goes to the source, with the values of its sequences, while nobody can write.
 */
export const unblockStep: Step<UnblockPlan, UnblockResult> = {
  name: "unblock",
  does: "opens the target with the source's connection limit, and lets waiting statements go on",
  async check(context, plan) {
    if ((await isTargetClosed(context)) !== true) return "done";
    // The source's own limit may have been 0.
    return context.resultOf(unblockStep) !== undefined && plan?.limit === 0 ? "done" : "todo";
  },
  async prepare(context) {
    const plan = context.planOf(blockWritesStep);
    if (plan === undefined) throw new Error("unblock comes after block-writes");
    return { limit: plan.formerLimit };
  },
  async run(context, { limit }) {
    await openDatabase(context, "target", limit);
    const at = rfc3339(context.clock.now());
    await dropForwardFeed(context);
    return { at };
  },
  async verify(context) {
    const limit = await context.session("target", (session) => connectionLimit(session, context.move.database));
    const wanted = context.planOf(unblockStep)?.limit;
    if (limit === wanted && (wanted === 0 || (await isTargetClosed(context)) === false)) return;
    const message = `database ${context.move.database} on ${context.target.instance} is closed, or allows ${limit} connections instead of ${wanted}`;
    throw new PgkitError("move-stopped", message, { hint: "does something else set its CONNECTION LIMIT?" });
  },
  async undo(context, plan, result) {
    const closed = await isTargetClosed(context);
    if (plan === undefined || closed === undefined) return;
    const opened = !closed || result !== undefined;
    if (!opened && !(await isFed(context))) return;
    await refuseWithoutFeed(context);
    if (opened) await dropForwardFeed(context);
    await takeBack(context, plan.limit);
  },
};

function isTargetClosed({ session, move }: MoveContext): Promise<boolean | undefined> {
  return session("target", (target) => isClosed(target, move.database));
}

/** It was stopped by `drain`, and is of no use once the target has writes of its own. */
async function dropForwardFeed(context: MoveContext): Promise<void> {
  const { forward: name } = feedNames(context.move);
  await context.session("target", (session) => dropSubscription(session, name));
  await context.session("source", (session) => dropPublication(session, name));
}

async function isFed(context: MoveContext): Promise<boolean> {
  const { back: name } = feedNames(context.move);
  return (await context.session("source", (session) => subscriptionState(session, name))) === "enabled";
}

async function refuseWithoutFeed(context: MoveContext): Promise<void> {
  const { instance } = context.target;
  if (!(await isFed(context))) {
    const message = `what was written on ${instance} since the switch cannot be brought back: there is no feed to the source`;
    throw new PgkitError("move-refused", message, {
      hint: `pgkit move ${context.move.database} --to ${context.source.instance} moves it back as a move of its own, or pgkit move finish`,
    });
  }
  const made = context.resultOf(reverseFeedStep)?.schema;
  if (made === undefined) return;
  const hint = "undo that change there, or pgkit move finish: what is only on the target would be lost by going back";
  await refuseSchemaChanges(context, "target", made, hint);
}

/** Where it fails, the target is open as before: the application is still pointed at it. */
async function takeBack(context: MoveContext, limit: number): Promise<void> {
  const closed = await closeDatabase(context, "target", limit);
  try {
    await waitFedBack(context, parseLsn(closed.lsn));
    const states = await context.session("target", sequenceStates);
    await context.session("source", (session) => carrySequences(session, states, { fresh: false }));
    await keepClosed(context, "target", closed);
  } catch (error) {
    if (!context.signal.aborted) await openDatabase(context, "target", limit);
    throw error;
  }
}
