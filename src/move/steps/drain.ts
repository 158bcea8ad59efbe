import { PgkitError } from "../../lib/errors.ts";
import { parseLsn } from "../../lib/lsn.ts";
import { feedHealth, feedWatch } from "../feed-errors.ts";
import { feedNames } from "../names.ts";
import { confirmedBy, waitConfirmed } from "../position.ts";
import { schemaChanges, schemaFingerprint } from "../schema-changes.ts";
import type { MoveContext, Step } from "../step.ts";
import { disableSubscription, enableSubscription, ensureSubscription, subscriptionState } from "../subscription.ts";
import { blockWritesStep } from "./block-writes.ts";
import { replicateStep } from "./replicate.ts";
import { unblockStep } from "./unblock.ts";

export interface DrainResult {
  /** Everything before it is on the target. */
  lsn: string;
  milliseconds: number;
}

/**
 * The target has all that was committed on the source before the block. The feed is stopped then, not dropped: a move that
 * stops before its switch opens the source again, and goes on following it. `unblock` drops it.
 */
export const drainStep: Step<undefined, DrainResult> = {
  name: "drain",
  does: "waits until the target has everything that was written before the block, and stops following",
  mode: "online",
  async check(context) {
    if (context.planOf(unblockStep) !== undefined) return "done";
    const { forward: name } = feedNames(context.move);
    const closed = context.resultOf(blockWritesStep);
    const state = await context.session("target", (session) => subscriptionState(session, name));
    if (closed === undefined || state === "missing") return "todo";
    const confirmed = await context.session("source", (session) => confirmedBy(session, name));
    return state === "disabled" && confirmed >= parseLsn(closed.lsn) ? "done" : "todo";
  },
  async run(context) {
    const { forward: name } = feedNames(context.move);
    const startedMs = context.clock.monotonicMs();
    const closed = context.resultOf(blockWritesStep);
    if (closed === undefined) throw new Error("drain comes after block-writes");
    const binary = context.planOf(replicateStep)?.binary === true;
    await ensureSubscription(context, { from: "source", name, copyData: false, binary });
    await Promise.all([drainTo(context, name, closed.lsn), refuseChangedSchema(context)]);
    await context.session("target", (session) => disableSubscription(session, name));
    return { lsn: closed.lsn, milliseconds: Math.round(context.clock.monotonicMs() - startedMs) };
  },
  async verify(context, { lsn }) {
    const { forward: name } = feedNames(context.move);
    const confirmed = await context.session("source", (session) => confirmedBy(session, name));
    if (confirmed >= parseLsn(lsn)) return;
    throw new PgkitError("move-stopped", `the target has not confirmed what was written before ${lsn}`, {
      hint: "pgkit move resume",
    });
  },
  async undo(context) {
    const { forward: name } = feedNames(context.move);
    await context.session("target", async (session) => {
      const state = await subscriptionState(session, name);
      if (state === "disabled") await enableSubscription(session, name);
    });
  },
};

async function drainTo(context: MoveContext, name: string, lsn: string): Promise<void> {
  const watch = feedWatch(context, name);
  await context.session("target", async (session) => {
    let looks = 0;
    const onLook = async (missingBytes: number) => {
      looks += 1;
      if (looks % 50 !== 0) return;
      const missing = () => `${missingBytes} bytes of WAL are not applied`;
      watch.look(await feedHealth(session, name), String(missingBytes), missing);
    };
    await waitConfirmed(context, { from: "source", name, lsn: parseLsn(lsn), onLook });
  });
}

/** What was altered just before the block. */
async function refuseChangedSchema(context: MoveContext): Promise<void> {
  const before = context.planOf(replicateStep)?.schema;
  if (before === undefined) return;
  const changes = schemaChanges(before, await context.session("source", schemaFingerprint));
  if (changes.length === 0) return;
  const message = `the schema of ${context.move.database} on ${context.source.instance} has changed since the copy began: ${changes.slice(0, 5).join("; ")}`;
  throw new PgkitError("move-stopped", message, {
    hint: "pgkit move rollback, and move again when the change is done",
  });
}
