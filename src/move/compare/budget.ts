import type { MoveFacts } from "../step.ts";

/** What is taken of the window at most: the rest of a second is for the drain, the switch, and what comes between. */
const mostMs = 250;
const share = 0.2;

/**
 * How long the rows may be compared while writes are blocked. What does not fit is proven by `prove-again` against the
 * source that the reverse feed keeps; without one, or offline, all of it is compared at once.
 */
export function compareBudgetMs({ mode, options }: Pick<MoveFacts, "mode" | "options">): number {
  const { maxBlockMs, reverseFeed } = options;
  if (maxBlockMs === undefined || !reverseFeed || mode === "offline") return Number.POSITIVE_INFINITY;
  return Math.min(mostMs, maxBlockMs * share);
}
