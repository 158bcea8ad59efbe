import { isPgkitError } from "../lib/errors.ts";
import { spellAddress } from "../switch/switch-errors.ts";
import { isSameAddress, type Switcher } from "../switch/switcher.ts";
import type { MoveContext, Risk } from "./step.ts";
import { targetOf } from "./steps/switch.ts";
import { systemIdAt } from "./switched.ts";

/** What must be known of the application's switch before the move begins, and what it will do, one sentence each. */
export interface SwitchOutlook {
  readonly does: readonly string[];
  readonly risks: readonly Risk[];
}

/** Asks every switcher where it points and what it would do. Changes nothing; what fails to answer is a refusal. */
export async function switchOutlook(context: MoveContext): Promise<SwitchOutlook> {
  if (context.switchers.length === 0) return { does: [], risks: [nobodySwitches] };
  const outlooks = await Promise.all(
    context.switchers.map(async (switcher): Promise<SwitchOutlook> => {
      try {
        return await outlookOf(context, switcher);
      } catch (error) {
        context.signal.throwIfAborted();
        if (!isPgkitError(error)) throw error;
        const hint = error.hint ?? "correct the application's switch:";
        return { does: [], risks: [{ level: "refusal", message: error.message, hint }] };
      }
    }),
  );
  return { does: outlooks.flatMap(({ does }) => does), risks: outlooks.flatMap(({ risks }) => risks) };
}

async function outlookOf(context: MoveContext, switcher: Switcher): Promise<SwitchOutlook> {
  const to = targetOf(context);
  const now = await switcher.current(context.signal);
  const plan = await switcher.plan?.(to, context.signal);
  const risks: Risk[] = [
    ...(plan?.refusals ?? []).map((one) => ({ ...one, level: "refusal" }) as const),
    ...(plan?.warnings ?? []).map((one) => ({ ...one, level: "warning" }) as const),
  ];
  return { does: plan?.does ?? [], risks: [...(await placeRisks(context, switcher, now)), ...risks] };
}

/** An application that is somewhere else would be moved to a copy of what is not its database. */
async function placeRisks(
  context: MoveContext,
  { where }: Switcher,
  now: Awaited<ReturnType<Switcher["current"]>>,
): Promise<Risk[]> {
  const { source, move } = context;
  if (isSameAddress(now, targetOf(context))) {
    const message = `${where} points at ${context.target.instance} already (${spellAddress(now)}), and not at ${source.instance}`;
    return [{ level: "refusal", message, hint: `point it at ${source.instance}, where the database is` }];
  }
  if (isSameAddress(now, { ...source.endpoint, database: move.database })) return [];
  const found = await systemIdAt(context, "source", now);
  if (found === move.source.systemId && now.database === move.database) return [];
  const message = `${where} points at ${spellAddress(now)}`;
  if (typeof found === "string") {
    const hint = "is that the application of this database? correct its switch:, or move the database that it uses";
    return [
      { level: "refusal", message: `${message}, which is not database ${move.database} on ${source.instance}`, hint },
    ];
  }
  return [
    {
      level: "warning",
      message: `${message}, which could not be proven to be ${source.instance}: ${found.message}`,
      hint: `make sure that it leads to ${source.instance}, or set instances.${source.instance}.endpoint to how the application spells it`,
    },
  ];
}

const nobodySwitches: Risk = {
  level: "warning",
  message:
    "nothing points the application at its database: it has no switch:, and the source stays closed to it after the move",
  hint: "point it at the target by hand as soon as the move says so, or add switch: to the application",
};
