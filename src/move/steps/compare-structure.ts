import { withBoth } from "../compare/both.ts";
import { proofFailed } from "../compare/proof-failed.ts";
import { type Survey, survey } from "../compare/survey.ts";
import type { Step } from "../step.ts";

/**
 * Online, before writes are blocked: compares everything but the rows, so that a difference is met while the application
 * still runs, and the block need not last for it. Also measures how fast rows are compared here.
 */
export const compareStructureStep: Step<undefined, Survey> = {
  name: "compare-structure",
  does: "compares every object, role, grant and setting of source and target, before writes are blocked",
  mode: "online",
  check: async (context) => (context.resultOf(compareStructureStep) === undefined ? "todo" : "done"),
  run: (context) => withBoth(context, (both) => survey(context, both)),
  verify: async ({ move }, { differences }) => {
    if (differences.length > 0) throw proofFailed(move.database, differences);
  },
  undo: async () => undefined,
};
