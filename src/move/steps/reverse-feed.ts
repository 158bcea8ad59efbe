import { PgkitError } from "../../lib/errors.ts";
import type { Session } from "../../postgres/session.ts";
import { feedNames } from "../names.ts";
import { publishedTables, qualified } from "../published.ts";
import { dropReverseFeed, startReverseFeed } from "../reverse-feed.ts";
import { type SchemaFingerprint, schemaFingerprint } from "../schema-changes.ts";
import type { Step } from "../step.ts";
import { feedState, subscriptionState } from "../subscription.ts";

export interface ReverseFeedPlan {
  /** Tables of the target that get REPLICA IDENTITY FULL until the move is finished, with what they had. */
  identities: { schema: string; name: string; former: "DEFAULT" | "NOTHING" }[];
}

export interface ReverseFeedResult {
  /** Of the target when it was opened: a table that came later is not on the source. */
  schema: SchemaFingerprint;
}

/**
 * What the application writes on the target goes to the source too, from the first moment: so it can go back there
 * without loss. Begins while nobody can write on either side; that it is consumed is the next step's.
 */
export const reverseFeedStep: Step<ReverseFeedPlan, ReverseFeedResult> = {
  name: "reverse-feed",
  does: "lets the source follow what will be written on the target, so that a rollback loses nothing",
  async check(context) {
    const { publication, slot, subscription } = await feedState(context, "target", feedNames(context.move).back);
    if (publication && slot && subscription === "enabled") return "done";
    // Since `catch-up` all of it may be there, and nothing of it be at work.
    return subscription === "enabled" ? "partial" : "todo";
  },
  prepare: async (context) =>
    context.planOf(reverseFeedStep) ?? { identities: await context.session("target", tablesWithoutIdentity) },
  async run(context, { identities }) {
    await context.session("target", async (session) => {
      for (const table of identities) await session.query(`ALTER TABLE ONLY ${qualified(table)} REPLICA IDENTITY FULL`);
    });
    const [schema] = await Promise.all([context.session("target", schemaFingerprint), startReverseFeed(context)]);
    return { schema };
  },
  async verify(context) {
    const { back: name } = feedNames(context.move);
    const state = await context.session("source", (session) => subscriptionState(session, name));
    if (state === "enabled") return;
    throw new PgkitError("move-stopped", `the subscription ${name} on ${context.source.instance} is ${state}`, {
      hint: "was it altered by hand? pgkit move resume",
    });
  },
  undo: (context, plan) => dropReverseFeed(context, (session) => forgetIdentities(session, plan?.identities ?? [])),
};

/** Gives the tables that had none their former replica identity back; those that are gone are left out. */
export async function forgetIdentities(session: Session, identities: ReverseFeedPlan["identities"]): Promise<void> {
  for (const table of identities) {
    await session.query(`ALTER TABLE IF EXISTS ONLY ${qualified(table)} REPLICA IDENTITY ${table.former}`);
  }
}

async function tablesWithoutIdentity(session: Session): Promise<ReverseFeedPlan["identities"]> {
  const bare = (await publishedTables(session)).filter(({ identity, unlogged }) => identity === "none" && !unlogged);
  if (bare.length === 0) return [];
  const rows = await session.query<{ schema: string; name: string; former: "DEFAULT" | "NOTHING" }>(
    `SELECT n.nspname AS schema, c.relname AS name, CASE c.relreplident WHEN 'n' THEN 'NOTHING' ELSE 'DEFAULT' END AS former
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN unnest($1::text[], $2::text[]) AS bare (s, t) ON s = n.nspname AND t = c.relname`,
    [bare.map(({ schema }) => schema), bare.map(({ name }) => name)],
  );
  if (rows.length === bare.length) return rows;
  throw new PgkitError("move-stopped", "tables were dropped on the target while they were looked at", {
    hint: "does something else use the target already?",
  });
}
