import { PgkitError } from "../../lib/errors.ts";
import { type Closed, closeDatabase, connectionLimit, openDatabase } from "../close-database.ts";
import { othersIn } from "../end-sessions.ts";
import type { MoveContext, Step } from "../step.ts";

export interface BlockPlan {
  /** The source's CONNECTION LIMIT before the move, -1 for none; `unblock` gives it to the target. */
  formerLimit: number;
}

/** No application writes into the source any more; the server lifts that by itself at the move's `maxBlockMs`. */
export const blockWritesStep: Step<BlockPlan, Closed> = {
  name: "block-writes",
  does: "holds the application's statements back where its switch can, closes the database and ends its sessions",
  blocks: true,
  async check(context, plan) {
    const { limit, others } = await context.session("source", async (session) => ({
      limit: await connectionLimit(session, context.move.database),
      others: (await othersIn(session)).length,
    }));
    if (limit !== 0 || plan === undefined) return "todo";
    if (context.resultOf(blockWritesStep) !== undefined && others === 0) return "done";
    return plan.formerLimit === 0 ? "todo" : "partial";
  },
  async prepare(context) {
    const { database } = context.move;
    // After a kill the limit is the move's own, and no longer the former one.
    const known = context.planOf(blockWritesStep);
    if (known !== undefined) return known;
    return await context.session("source", async (session) => {
      await refuseWithoutSuperuser(context, session);
      const formerLimit = await connectionLimit(session, database);
      if (formerLimit !== undefined) return { formerLimit };
      throw new PgkitError("database-missing", `there is no database ${database} on ${context.source.instance}`, {
        hint: "was it dropped or renamed while the move was under way?",
      });
    });
  },
  run: (context, { formerLimit }) => closeDatabase(context, "source", formerLimit),
  async verify(context) {
    const limit = await context.session("source", (session) => connectionLimit(session, context.move.database));
    if (limit === 0) return;
    const message = `database ${context.move.database} on ${context.source.instance} is open to ${limit} connections right after it was closed`;
    throw new PgkitError("move-stopped", message, { hint: "does something else set its CONNECTION LIMIT?" });
  },
  async undo(context, plan) {
    if (plan !== undefined) await openDatabase(context, "source", plan.formerLimit);
  },
};

/** The limit of 0 shuts everybody else out, so also pgkit. */
async function refuseWithoutSuperuser(
  context: MoveContext,
  session: Parameters<Parameters<MoveContext["session"]>[1]>[0],
): Promise<void> {
  const [row] = await session.query<{ superuser: boolean; user: string }>(
    `SELECT current_setting('is_superuser')::bool AS superuser, current_user AS "user"`,
  );
  if (row?.superuser === true) return;
  const message = `writes on ${context.source.instance} can only be blocked by a superuser, and ${row?.user} is none`;
  throw new PgkitError("move-refused", message, {
    hint: `let pgkit connect to ${context.source.instance} as a superuser`,
  });
}
