import { isPgkitError, PgkitError } from "../../lib/errors.ts";
import { dumpRoles } from "../../postgres/roles.ts";
import { serverFacts } from "../../postgres/server-facts.ts";
import { dropDatabase } from "../../restore/drop.ts";
import { dropRoles } from "../drop-roles.ts";
import { forgetStatement } from "../gate.ts";
import { feedNames } from "../names.ts";
import { onTarget, stageOf, unmark } from "../stage.ts";
import type { MoveContext, Side, Step } from "../step.ts";
import { dropPublication, dropSubscription } from "../subscription.ts";
import { mustBeThere } from "./back-up.ts";
import { createDatabaseStep } from "./create-database.ts";
import { finalBackupStep } from "./final-backup.ts";
import { lastProof } from "./prove-again.ts";
import { forgetIdentities, reverseFeedStep } from "./reverse-feed.ts";

export interface CleanUpPlan {
  /** The roles that the old database needed: those of them that nothing else uses are dropped. */
  readonly roles: readonly string[];
}

export interface CleanedUp {
  readonly dropped: string;
  readonly backup: string;
}

/**
 * Drops the old database, whatever led back to it, and its roles that nothing else uses. Refused without a whole proof, a
 * last backup that was read back, and where source and target are one server. That the user has agreed is the caller's to ask.
 */
export const cleanUpStep: Step<CleanUpPlan, CleanedUp> = {
  name: "clean-up",
  does: "drops the old database, the way back to it, and the roles that nothing else uses there",
  async check(context, plan) {
    if (await exists(context, "source")) return plan === undefined ? "todo" : "partial";
    if (context.resultOf(finalBackupStep) === undefined) return "todo";
    const isMarked = (await stageOf(context)) !== "foreign";
    return isMarked || (await hasReverseFeed(context)) ? "partial" : "done";
  },
  async prepare(context) {
    const known = context.planOf(cleanUpStep);
    if (known !== undefined) return known;
    const { names } = await context.session("source", dumpRoles);
    const own = context.source.connection.user;
    return { roles: names.filter((name) => name !== own) };
  },
  async run(context, { roles }) {
    const backup = await requireFinished(context);
    await dropWayBack(context);
    await dropOld(context);
    await dropRoles(context, roles, { side: "source" });
    await onTarget(context, forgetStatement(context.move.database));
    await unmark(context, context.planOf(createDatabaseStep)?.comment ?? null);
    return { dropped: `${context.source.instance}/${context.move.database}`, backup };
  },
  async verify(context) {
    if (!(await exists(context, "source"))) return;
    const message = `database ${context.move.database} is still on ${context.source.instance}`;
    throw new PgkitError("move-stopped", message, {
      hint: "did somebody make it anew? pgkit move finish again drops it",
    });
  },
  async undo(context) {
    if (await exists(context, "source")) return;
    const message = `the old database ${context.move.database} on ${context.source.instance} is gone: there is no way back`;
    const id = context.resultOf(finalBackupStep)?.id ?? "";
    throw new PgkitError("move-refused", message, { hint: `its last state is in backup ${id}: pgkit restore` });
  },
};

/** Everything that must be so before anything is dropped; gives the last backup's id. */
async function requireFinished(context: MoveContext): Promise<string> {
  const { move } = context;
  const proof = await lastProof(context);
  if (proof.state !== "proven") {
    throw refused(
      context,
      `it is not proven that ${context.target.instance} has all of it (${proof.state})`,
      "pgkit move status shows the proof",
    );
  }
  const backup = context.resultOf(finalBackupStep);
  if (backup === undefined) throw refused(context, "no last backup of it was taken", "pgkit move finish takes one");
  await mustBeThere(context, backup);
  const [here, there] = await Promise.all([systemIdOf(context, "source"), systemIdOf(context, "target")]);
  if (here === there || here !== move.source.systemId || there !== move.target.systemId) {
    const message = `${context.source.instance} has system id ${here} and ${context.target.instance} ${there}, instead of ${move.source.systemId} and ${move.target.systemId}`;
    throw refused(context, message, "do the instances' URLs still lead to the servers of the move?");
  }
  if (!(await exists(context, "target"))) {
    throw refused(
      context,
      `${context.target.instance} has no database ${move.database}`,
      "who dropped it? pgkit restore brings it back",
    );
  }
  return backup.id;
}

function refused({ move, source }: MoveContext, why: string, hint: string): PgkitError {
  return new PgkitError("move-refused", `${move.database} on ${source.instance} is not dropped: ${why}`, { hint });
}

/** From here on a rollback is impossible. */
async function dropWayBack(context: MoveContext): Promise<void> {
  const { back } = feedNames(context.move);
  if (await exists(context, "source")) await context.session("source", (session) => dropSubscription(session, back));
  await context.session("target", async (session) => {
    await dropPublication(session, back);
    await forgetIdentities(session, context.planOf(reverseFeedStep)?.identities ?? []);
  });
}

/** No signal ends it: the server would go on, and be done after we have looked. */
async function dropOld({ move, source }: MoveContext): Promise<void> {
  const maintenance = source.connection.database;
  try {
    await dropDatabase(source.connection, { name: move.database, maintenance, force: true });
  } catch (error) {
    if (!isPgkitError(error, "postgres-failed")) throw error;
    throw new PgkitError(
      "move-stopped",
      `the old database ${move.database} on ${source.instance} could not be dropped: ${error.message}`,
      {
        hint: "drop its replication slots (pg_replication_slots) and end its prepared transactions, then pgkit move finish",
        cause: error,
      },
    );
  }
}

async function exists(context: MoveContext, side: Side): Promise<boolean> {
  const rows = await maintaining(context, side, "SELECT FROM pg_database WHERE datname = $1", [context.move.database]);
  return rows.length > 0;
}

async function hasReverseFeed(context: MoveContext): Promise<boolean> {
  const sql = "SELECT FROM pg_replication_slots WHERE slot_name = $1";
  return (await maintaining(context, "target", sql, [feedNames(context.move).back])).length > 0;
}

async function systemIdOf(context: MoveContext, side: Side): Promise<string> {
  const { systemId } = await context.session(side, serverFacts, context[side].connection.database);
  return systemId;
}

function maintaining(context: MoveContext, side: Side, sql: string, values: readonly unknown[]): Promise<unknown[]> {
  return context.session(side, (session) => session.query(sql, values), context[side].connection.database);
}
