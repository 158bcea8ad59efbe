import type { Step } from "../facts.ts";
import { assertRights } from "../rights.ts";

/** What may have changed since the plan was shown, once more before anything is changed. */
export const preflightStep: Step = {
  name: "preflight",
  does: "makes sure that everything that follows is allowed",
  check: async ({ hasBegun }) => (hasBegun("scale-down") ? "done" : "todo"),
  run: async ({ kube, restore, signal }) => assertRights(kube, { ...restore, scales: true }, signal),
  verify: async () => undefined,
  undo: async () => undefined,
};
