import { PgkitError } from "../../lib/errors.ts";
import { feedHealth, feedWatch } from "../feed-errors.ts";
import { feedNames } from "../names.ts";
import { confirmedBy, flushPosition, waitConfirmed } from "../position.ts";
import { dropReverseFeed, isReverseFeedPrepared, prepareReverseFeed, skipCopied } from "../reverse-feed.ts";
import { refuseSchemaChanges } from "../schema-changes.ts";
import type { MoveContext, Step } from "../step.ts";
import { ensureSubscription, subscriptionState } from "../subscription.ts";
import { drainStep } from "./drain.ts";
import { replicateStep } from "./replicate.ts";

export interface CatchUpResult {
  /** How long it took until what was written at that moment was on the target. */
  lagMs: number;
}

/** So much is drained within the block, in time that the application waits for. */
const closeMs = 500;

/**
 * The target is so close behind the source that the rest is quick. The way back is prepared here too: its slot must
 * wait for every transaction that writes on the target's server, of whatever database.
 */
export const catchUpStep: Step<undefined, CatchUpResult> = {
  name: "catch-up",
  does: `waits until the target is less than ${closeMs} ms behind the source`,
  mode: "online",
  async check(context) {
    if ((await drainStep.check(context, undefined)) === "done") return "done";
    const { forward } = feedNames(context.move);
    const state = await context.session("target", (session) => subscriptionState(session, forward));
    if (state !== "enabled" || !(await isReverseFeedPrepared(context))) return "todo";
    const lagMs = await lagOf(context, forward, closeMs);
    return lagMs === undefined ? "todo" : "done";
  },
  async run(context) {
    const { forward } = feedNames(context.move);
    const plan = context.planOf(replicateStep);
    if (plan !== undefined) await refuseSchemaChanges(context, "source", plan.schema);
    await ensureSubscription(context, {
      from: "source",
      name: forward,
      copyData: false,
      binary: plan?.binary === true,
    });
    if (context.move.options.reverseFeed) await prepareReverseFeed(context);
    const lagMs = await waitClose(context, forward);
    if (plan !== undefined) await refuseSchemaChanges(context, "source", plan.schema);
    // So that little is left to skip while writes are blocked.
    if (context.move.options.reverseFeed) await skipCopied(context);
    return { lagMs };
  },
  async verify(context) {
    const { forward } = feedNames(context.move);
    const state = await context.session("target", (session) => subscriptionState(session, forward));
    if (state === "enabled") return;
    throw new PgkitError("move-stopped", `the subscription ${forward} on ${context.target.instance} is ${state}`, {
      hint: "was it altered by hand? pgkit move resume",
    });
  },
  undo: (context) => dropReverseFeed(context),
};

async function waitClose(context: MoveContext, name: string): Promise<number> {
  const { clock, report, move } = context;
  const [task, startedMs, watch] = [`catch up ${move.database}`, clock.monotonicMs(), feedWatch(context, name)];
  report({ type: "start", task });
  return await context.session("target", async (session) => {
    for (;;) {
      const lagMs = await lagOf(context, name, 5000, async (missing) => {
        report({ type: "progress", task, bytes: 0, phase: `${missing} bytes of WAL behind` });
        const confirmed = await context.session("source", (sending) => confirmedBy(sending, name));
        watch.look(await feedHealth(session, name), String(confirmed), () => `${missing} bytes of WAL are not applied`);
      });
      if (lagMs === undefined || lagMs > closeMs) continue;
      const seconds = (clock.monotonicMs() - startedMs) / 1000;
      report({ type: "done", task, seconds, summary: `the target is ${lagMs} ms behind` });
      return lagMs;
    }
  });
}

/** Milliseconds until the target has what the source has now; `undefined` where that takes longer than `withinMs`. */
async function lagOf(
  context: MoveContext,
  name: string,
  withinMs: number,
  onSecond?: (missingBytes: number) => Promise<void>,
): Promise<number | undefined> {
  const { clock } = context;
  const startedMs = clock.monotonicMs();
  const lsn = await context.session("source", flushPosition);
  let [late, saidMs] = [false, startedMs];
  const onLook = async (missingBytes: number) => {
    const nowMs = clock.monotonicMs();
    late = nowMs - startedMs > withinMs;
    if (late) throw tooLate;
    if (nowMs - saidMs < 1000) return;
    saidMs = nowMs;
    await onSecond?.(missingBytes);
  };
  try {
    await waitConfirmed(context, { from: "source", name, lsn, everyMs: 20, onLook });
  } catch (error) {
    if (error !== tooLate) throw error;
    return undefined;
  }
  return Math.round(clock.monotonicMs() - startedMs);
}

const tooLate = new PgkitError("move-stopped", "the target is too far behind");
