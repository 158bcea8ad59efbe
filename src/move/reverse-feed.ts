import type { Lsn } from "../lib/lsn.ts";
import type { Session } from "../postgres/session.ts";
import { feedHealth, feedWatch } from "./feed-errors.ts";
import { feedNames } from "./names.ts";
import { flushPosition, skipTo, waitConfirmed } from "./position.ts";
import { isBinarySafe, type PublishedTable, publishedTables, qualified } from "./published.ts";
import type { MoveContext } from "./step.ts";
import {
  dropPublication,
  dropSubscription,
  enableSubscription,
  ensurePublication,
  ensureSlot,
  ensureSubscription,
  feedState,
  subscriptionState,
} from "./subscription.ts";

/**
 * Makes all that the way back needs and does not start it: publication and slot on the target, a disabled subscription on
 * the source. What is there already stays.
 */
export async function prepareReverseFeed(context: MoveContext): Promise<void> {
  const { back: name } = feedNames(context.move);
  const binary = await context.session("target", async (session) => {
    const tables = await publishedTables(session);
    warnOfUnlogged(context, tables);
    const logged = tables.filter((table) => !table.unlogged);
    await ensurePublication(session, name, logged);
    await ensureSlot(session, name);
    return (await isBinarySafe(session)) && context.move.source.major === context.move.target.major;
  });
  await ensureSubscription(context, { from: "target", name, copyData: false, binary, enabled: false });
}

/** Whether `prepareReverseFeed` has nothing to do, or there is to be no way back. */
export async function isReverseFeedPrepared(context: MoveContext): Promise<boolean> {
  if (!context.move.options.reverseFeed) return true;
  const { publication, slot, subscription } = await feedState(context, "target", feedNames(context.move).back);
  return publication && slot && subscription !== "missing";
}

/** From here on the source follows the target. */
export async function startReverseFeed(context: MoveContext): Promise<void> {
  if (!(await isReverseFeedPrepared(context))) await prepareReverseFeed(context);
  const { back: name } = feedNames(context.move);
  if ((await context.session("source", (session) => subscriptionState(session, name))) === "enabled") return;
  await skipCopied(context);
  await context.session("source", (session) => enableSubscription(session, name));
}

/**
 * What the target has written so far came from the source and does not go back. Only before the target was ever open: from
 * then on the slot keeps what the application has written, and nothing may be skipped.
 */
export async function skipCopied(context: MoveContext): Promise<void> {
  if (context.planOf({ name: "unblock" }) !== undefined) return;
  const { back: name } = feedNames(context.move);
  await context.session("target", async (session) => skipTo(session, name, await flushPosition(session)));
}

/** Waits until the source has everything that the target had written at `lsn`. */
export async function waitFedBack(context: MoveContext, lsn: Lsn): Promise<void> {
  const { back: name } = feedNames(context.move);
  const sides = { source: context.target, target: context.source };
  const watch = feedWatch({ ...context, ...sides }, name);
  let looks = 0;
  await context.session("source", (session) =>
    waitConfirmed(context, {
      ...{ from: "target", name, lsn },
      onLook: async (missing) => {
        looks += 1;
        if (looks % 50 !== 0) return;
        watch.look(await feedHealth(session, name), String(missing), () => `${missing} bytes of WAL are not applied`);
      },
    }),
  );
}

/** Removes it from both sides; what is not there is no error. */
export async function dropReverseFeed(
  context: MoveContext,
  andThen?: (target: Session) => Promise<void>,
): Promise<void> {
  const { back: name } = feedNames(context.move);
  await context.session("source", (session) => dropSubscription(session, name));
  await context.session("target", async (session) => {
    await dropPublication(session, name);
    await andThen?.(session);
  });
}

function warnOfUnlogged({ report }: MoveContext, tables: readonly PublishedTable[]): void {
  const unlogged = tables.filter((table) => table.unlogged).map(qualified);
  if (unlogged.length === 0) return;
  report({
    type: "warning",
    message: `what is written to unlogged tables on the target does not go back with a rollback: ${unlogged.join(", ")}`,
    hint: "ALTER TABLE ... SET LOGGED before the move, where their rows matter",
  });
}
