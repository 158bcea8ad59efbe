import { PgkitError } from "../../lib/errors.ts";
import { assess, type Estimates } from "../preflight.ts";
import type { MoveContext, Risk, Step } from "../step.ts";

export interface PreflightResult {
  readonly warnings: readonly string[];
  readonly estimates: Estimates;
}

/** Refuses what would lose or break something, all of it at once, and tells of the rest. */
export const preflightStep: Step<undefined, PreflightResult> = {
  name: "preflight",
  does: "looks at both servers for whatever would lose or break something",
  // What was found once stands for the whole move, which itself is what it would meet the second time.
  check: async (context) => (context.resultOf(preflightStep) === undefined ? "todo" : "done"),
  run: async (context) => {
    const { risks, estimates } = await assess(context);
    const warnings = risks.filter(({ level }) => level === "warning");
    for (const { message, hint } of warnings) context.report({ type: "warning", message, hint });
    const refusals = risks.filter(({ level }) => level === "refusal");
    if (refusals.length > 0) throw refused(context, refusals);
    return { warnings: warnings.map(({ message }) => message), estimates };
  },
  verify: async () => undefined,
  undo: async () => undefined,
};

function refused({ move }: MoveContext, refusals: readonly Risk[]): PgkitError {
  const number = (index: number) => (refusals.length === 1 ? "" : `${index + 1}. `);
  const messages = refusals.map(({ message }, index) => `${number(index)}${message}`).join("; ");
  return new PgkitError(
    "move-refused",
    `the move of ${move.database} is refused, and nothing was changed: ${messages}`,
    {
      hint: refusals.map(({ hint }, index) => `${number(index)}${hint}`).join("; "),
    },
  );
}
