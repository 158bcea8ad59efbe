import { PgkitError } from "../../lib/errors.ts";
import { isClosed } from "../gate.ts";
import {
  carriedValue,
  carrySequences,
  isBehind,
  type SequenceState,
  sequenceStates,
  setSequences,
} from "../sequences.ts";
import type { MoveContext, Step } from "../step.ts";
import { unblockStep } from "./unblock.ts";

export interface SequencesPlan {
  /** The target's sequences before. */
  former: SequenceState[];
}

export interface SequencesResult {
  sequences: number;
  /** How many had to be set: the others stood there already. */
  set: number;
}

/** Replication does not carry sequences: they are set, some values further than the source's. */
export const sequencesStep: Step<SequencesPlan, SequencesResult> = {
  name: "sequences",
  does: "sets the target's sequences some values beyond the source's",
  async check(context) {
    if (context.planOf(unblockStep) !== undefined) return "done";
    return (await sequencesBehind(context)).length === 0 ? "done" : "todo";
  },
  prepare: async (context) =>
    context.planOf(sequencesStep) ?? { former: await context.session("target", sequenceStates) },
  async run(context) {
    const states = await context.session("source", sequenceStates);
    const set = await context.session("target", async (session) => {
      const fresh = (await isClosed(session, context.move.database)) === true;
      return await carrySequences(session, states, { fresh });
    });
    return { sequences: states.length, set };
  },
  async verify(context) {
    const [behind] = await sequencesBehind(context);
    if (behind === undefined) return;
    throw new PgkitError("move-stopped", `the sequence ${behind} is behind the source's after it was set`, {
      hint: "does something use the target already?",
    });
  },
  async undo(context, plan) {
    if (plan === undefined) return;
    await context.session("target", (session) => setSequences(session, plan.former));
  },
};

async function sequencesBehind(context: MoveContext): Promise<string[]> {
  const [from, to] = await Promise.all([
    context.session("source", sequenceStates),
    context.session("target", sequenceStates),
  ]);
  const there = new Map(to.map((state) => [`${state.schema}.${state.name}`, state]));
  return from.flatMap((state) => {
    const [name, wanted] = [`${state.schema}.${state.name}`, carriedValue(state)];
    const now = there.get(name);
    return now === undefined || isBehind(now, { ...wanted, increment: state.increment }) ? [name] : [];
  });
}
