import { PgkitError } from "../../lib/errors.ts";
import { spellAddress } from "../../switch/switch-errors.ts";
import { type EndpointAddress, isSameAddress, type Switcher } from "../../switch/switcher.ts";
import { makePermanent } from "../block.ts";
import type { MoveContext, Step, SwitchedFrom } from "../step.ts";
import { provesTarget } from "../switched.ts";

export interface SwitchStepPlan {
  /** Where each pointed before; so the way back leads there however the configuration spells the source. */
  readonly switched: SwitchedFrom;
  readonly to: EndpointAddress;
}

export interface SwitchStepResult {
  readonly to: EndpointAddress;
  readonly where: readonly string[];
}

/**
 * Points the application at the target, by all of its switchers at once. The block is made permanent just before: from
 * then on no deadline opens the source, where a late write would be lost. Its undoing points back what was switched, also
 * where only some were; what somebody else has changed meanwhile is left and named by a `switch-conflict`.
 */
export const switchStep: Step<SwitchStepPlan, SwitchStepResult> = {
  name: "switch",
  does: "points the application at the target",
  async check(context, plan) {
    const to = plan?.to ?? targetOf(context);
    const isDone = context.resultOf(switchStep) !== undefined;
    const places = await Promise.all(
      // A command is not asked where it points: of one that another process has called, the journal knows.
      context.switchers.map((one) => (isDone && one.kind === "command" ? to : one.current(context.signal))),
    );
    const there = places.filter((place) => isSameAddress(place, to)).length;
    // With none there is nothing to ask: the user points the application by hand.
    if (places.length === 0) return isDone ? "done" : "todo";
    return there === 0 ? "todo" : there === places.length ? "done" : "partial";
  },
  async prepare(context) {
    const to = targetOf(context);
    const switched = await Promise.all(
      context.switchers.map(async (switcher) => {
        const now = await switcher.current(context.signal);
        const from = { host: now.host, port: now.port, database: now.database };
        if (isSameAddress(from, to)) throw thereBefore(switcher, to);
        // Before anybody waits for it: the target is closed already, as it will be then.
        await provesTarget(context, switcher.where, { ...now, ...to });
        return { where: switcher.where, from };
      }),
    );
    return { switched, to };
  },
  async run(context, { switched, to }) {
    await makePermanent(context);
    await allOf(ownSwitchers(context, switched), ({ switcher, from }) => switcher.point(from, to, context.signal));
    return { to, where: switched.map(({ where }) => where) };
  },
  async verify(context, { to }) {
    await allOf(context.switchers, async (switcher) => {
      const now = await switcher.current(context.signal);
      if (!isSameAddress(now, to)) throw notThere(switcher, now, to);
    });
  },
  async undo(context, plan) {
    if (plan === undefined) return;
    const { switched, to } = plan;
    await allOf(ownSwitchers(context, switched), ({ switcher, from }) => switcher.point(to, from, context.signal));
  },
};

/** Where the application is to find its database. */
export function targetOf({ target, move }: MoveContext): EndpointAddress {
  return { host: target.endpoint.host, port: target.endpoint.port, database: move.database };
}

/** Each switcher that was journaled, with where it pointed. */
function ownSwitchers(context: MoveContext, switched: SwitchedFrom): { switcher: Switcher; from: EndpointAddress }[] {
  const unknown = context.switchers.find(({ where }) => !switched.some((one) => one.where === where));
  if (unknown !== undefined) throw changedConfiguration(`${unknown.where} was not`);
  return switched.map(({ where, from }) => {
    const switcher = context.switchers.find((one) => one.where === where);
    if (switcher === undefined) throw changedConfiguration(`${where} was, and is no longer`);
    return { switcher, from };
  });
}

/** Waits for all, so that none is under way any more when a failure is told: the first one. */
async function allOf<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const outcomes = await Promise.allSettled(items.map(work));
  const failed = outcomes.find((outcome) => outcome.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

function thereBefore({ where }: Switcher, to: EndpointAddress): PgkitError {
  return new PgkitError(
    "switch-conflict",
    `${where} points at ${spellAddress(to)} already, before the move has switched it`,
    {
      hint: "who changed it? point it back at the source, then pgkit move resume, or pgkit move rollback",
    },
  );
}

function notThere({ where }: Switcher, now: EndpointAddress, to: EndpointAddress): PgkitError {
  return new PgkitError(
    "switch-conflict",
    `${where} points at ${spellAddress(now)} and not at ${spellAddress(to)}, where it was pointed`,
    {
      hint: "something puts it back: stop that, then pgkit move resume",
    },
  );
}

function changedConfiguration(what: string): PgkitError {
  return new PgkitError(
    "move-refused",
    `the configuration of the application's switch has changed: ${what} part of it when the move began`,
    {
      hint: "put the application's switch: back as it was until the move is finished or rolled back",
    },
  );
}
