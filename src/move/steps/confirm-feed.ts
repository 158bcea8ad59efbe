import { formatLsn } from "../../lib/lsn.ts";
import { flushPosition } from "../position.ts";
import { waitFedBack } from "../reverse-feed.ts";
import type { Step } from "../step.ts";

export interface ConfirmFeedResult {
  /** Of the target: the source has what was written before it. */
  lsn: string;
}

/** A step of its own, so that the feed starts while rows are compared. */
export const confirmFeedStep: Step<undefined, ConfirmFeedResult> = {
  name: "confirm-feed",
  does: "waits until the source takes what the target writes",
  check: async (context) => (context.resultOf(confirmFeedStep) === undefined ? "todo" : "done"),
  async run(context) {
    const lsn = await context.session("target", flushPosition);
    await waitFedBack(context, lsn);
    return { lsn: formatLsn(lsn) };
  },
  verify: async () => undefined,
  undo: async () => undefined,
};
