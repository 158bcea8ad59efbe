import { PgkitError } from "../../lib/errors.ts";
import { formatLsn } from "../../lib/lsn.ts";
import type { Session } from "../../postgres/session.ts";
import { feedHealth, feedWatch } from "../feed-errors.ts";
import { feedNames } from "../names.ts";
import { flushPosition, skipTo, waitConfirmed } from "../position.ts";
import { isBinarySafe, type PublishedTable, publishedTables, qualified } from "../published.ts";
import { type SchemaFingerprint, schemaFingerprint } from "../schema-changes.ts";
import type { MoveContext, Step } from "../step.ts";
import {
  dropPublication,
  dropSubscription,
  ensurePublication,
  ensureSlot,
  ensureSubscription,
  feedState,
} from "../subscription.ts";

export interface ReverseFeedPlan {
  name: string;
  /** Tables of the target that get REPLICA IDENTITY FULL until the move is finished, with what they had. */
  identities: { schema: string; name: string; former: "DEFAULT" | "NOTHING" }[];
}

export interface ReverseFeedResult {
  name: string;
  tables: number;
  /** Of the target: what is written after it goes back to the source. */
  lsn: string;
  /** Of the target when it was opened: a table that came later is not on the source. */
  schema: SchemaFingerprint;
}

/**
 * What the application writes on the target goes to the source too, from the first moment: so it can go back there
 * without loss. Set up while nobody can write on either side, and confirmed to be consumed.
 */
export const reverseFeedStep: Step<ReverseFeedPlan, ReverseFeedResult | undefined> = {
  name: "reverse-feed",
  does: "lets the source follow what will be written on the target, so that a rollback loses nothing",
  async check(context) {
    if (!context.move.options.reverseFeed) return "done";
    const { publication, slot, subscription } = await feedState(context, "target", feedNames(context.move).back);
    if (publication && slot && subscription === "enabled") return "done";
    // The slot alone is there since `catch-up`.
    return publication || subscription !== "missing" ? "partial" : "todo";
  },
  async prepare(context) {
    const known = context.planOf(reverseFeedStep);
    if (known !== undefined) return known;
    const bare = !context.move.options.reverseFeed ? [] : await context.session("target", tablesWithoutIdentity);
    return { name: feedNames(context.move).back, identities: bare };
  },
  async run(context, { name, identities }) {
    if (!context.move.options.reverseFeed) return undefined;
    const { tables, binary, schema } = await context.session("target", async (session) => {
      for (const table of identities) await session.query(`ALTER TABLE ONLY ${qualified(table)} REPLICA IDENTITY FULL`);
      const all = await publishedTables(session);
      const logged = all.filter((table) => !table.unlogged);
      warnOfUnlogged(context, all);
      await ensurePublication(session, name, logged);
      await ensureSlot(session, name);
      const safe = (await isBinarySafe(session)) && context.move.source.major === context.move.target.major;
      return { tables: logged.length, binary: safe, schema: await schemaFingerprint(session) };
    });
    const { subscription } = await feedState(context, "target", name);
    // Once it is consumed the slot is the subscription's, and nothing may be skipped any more.
    if (subscription === "missing") {
      await context.session("target", async (session) => skipTo(session, name, await flushPosition(session)));
    }
    await ensureSubscription(context, { from: "target", name, copyData: false, binary });
    const lsn = await confirm(context, name);
    return { name, tables, lsn, schema };
  },
  async verify(context, result) {
    if (result !== undefined) await confirm(context, result.name);
  },
  async undo(context, plan) {
    const { back: name } = feedNames(context.move);
    await context.session("source", (session) => dropSubscription(session, name));
    await context.session("target", async (session) => {
      await dropPublication(session, name);
      await forgetIdentities(session, plan?.identities ?? []);
    });
  },
};

/** Gives the tables that had none their former replica identity back; those that are gone are left out. */
export async function forgetIdentities(session: Session, identities: ReverseFeedPlan["identities"]): Promise<void> {
  for (const table of identities) {
    await session.query(`ALTER TABLE IF EXISTS ONLY ${qualified(table)} REPLICA IDENTITY ${table.former}`);
  }
}

/** The source's worker has taken what the target had written until now. */
async function confirm(context: MoveContext, name: string): Promise<string> {
  const lsn = await context.session("target", flushPosition);
  const sides = { source: context.target, target: context.source };
  const watch = feedWatch({ ...context, ...sides }, name);
  let looks = 0;
  await context.session("source", (session) =>
    waitConfirmed(context, {
      ...{ from: "target", name, lsn },
      onLook: async () => {
        looks += 1;
        if (looks % 50 !== 0) return;
        watch.look(await feedHealth(session, name), "", () => "the way back is not consumed");
      },
    }),
  );
  return formatLsn(lsn);
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

function warnOfUnlogged({ report }: MoveContext, tables: readonly PublishedTable[]): void {
  const unlogged = tables.filter((table) => table.unlogged).map(qualified);
  if (unlogged.length === 0) return;
  report({
    type: "warning",
    message: `what is written to unlogged tables on the target does not go back with a rollback: ${unlogged.join(", ")}`,
    hint: "ALTER TABLE ... SET LOGGED before the move, where their rows matter",
  });
}
