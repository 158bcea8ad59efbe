import { PgkitError } from "../../lib/errors.ts";
import type { Session } from "../../postgres/session.ts";
import { isClosed } from "../gate.ts";
import { copyState, waitCopied } from "../initial-copy.ts";
import { feedNames } from "../names.ts";
import { isBinarySafe, type PublishedTable, publishedTables, qualified, refuseUnpublishable } from "../published.ts";
import { refuseSchemaChanges, type SchemaFingerprint, schemaFingerprint } from "../schema-changes.ts";
import type { MoveContext, Step } from "../step.ts";
import {
  dropPublication,
  dropSubscription,
  ensurePublication,
  ensureSlot,
  ensureSubscription,
  feedState,
} from "../subscription.ts";
import { unblockStep } from "./unblock.ts";

export interface ReplicatePlan {
  /** Publication, slot and subscription. */
  name: string;
  tables: PublishedTable[];
  binary: boolean;
  /** Of the source when the copy began: what changes it while the copy follows would be missing in it. */
  schema: SchemaFingerprint;
}

export interface ReplicateResult {
  name: string;
  tables: number;
  bytes: number;
  seconds: number;
}

/** The initial copy, by PostgreSQL itself: from then on the target follows the source. */
export const replicateStep: Step<ReplicatePlan, ReplicateResult> = {
  name: "replicate",
  does: "copies all rows by a publication and a subscription, and follows what is written meanwhile",
  mode: "online",
  async check(context, plan) {
    if (context.planOf(unblockStep) !== undefined) return "done";
    const { forward: name } = feedNames(context.move);
    const { publication, slot, subscription } = await feedState(context, "source", name);
    if (!publication && !slot && subscription === "missing") return "todo";
    if (!publication || !slot || subscription === "missing" || plan === undefined) return "partial";
    const { tables, ready } = await context.session("target", (session) => copyState(session, name));
    return ready === tables && tables === plan.tables.length ? "done" : "partial";
  },
  async prepare(context) {
    const { name, tables, safe, schema } = await context.session("source", async (session) => ({
      name: feedNames(context.move).forward,
      tables: await publishedTables(session),
      safe: await isBinarySafe(session),
      schema: await schemaFingerprint(session),
    }));
    refuseUnpublishable(tables);
    await refuseMissing(context, tables);
    return { name, tables, binary: safe && context.move.source.major === context.move.target.major, schema };
  },
  async run(context, plan) {
    const { name, tables, binary, schema } = plan;
    const startedMs = context.clock.monotonicMs();
    await context.session("source", async (session) => {
      await ensurePublication(session, name, tables);
      await withNoteOfOthers(context, session, () => ensureSlot(session, name));
    });
    const { subscription } = await feedState(context, "source", name);
    if (subscription === "missing") await context.session("target", (session) => emptyTables(context, session, tables));
    await ensureSubscription(context, { from: "source", name, copyData: true, binary });
    const totalBytes = tables.reduce((sum, { bytes }) => sum + bytes, 0);
    const whileWaiting = () => refuseSchemaChanges(context, "source", schema);
    const { bytes } = await waitCopied(context, { name, totalBytes, whileWaiting });
    return { name, tables: tables.length, bytes, seconds: (context.clock.monotonicMs() - startedMs) / 1000 };
  },
  async verify(context, { name, tables }) {
    const state = await context.session("target", (session) => copyState(session, name));
    if (state.tables === tables && state.ready === tables) return;
    const message = `of ${tables} tables the target follows ${state.ready}: not ${state.waiting.join(", ")}`;
    throw new PgkitError("move-stopped", message, { hint: "pgkit move resume" });
  },
  async undo(context) {
    const { forward: name } = feedNames(context.move);
    const oids = await context.session("target", async (session) => {
      const found = await session.query<{ oid: number }>(
        `SELECT oid::int8::float8 AS oid FROM pg_subscription WHERE subname = $1
           AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
        [name],
      );
      await dropSubscription(session, name);
      return found.map(({ oid }) => oid);
    });
    await context.session("source", (session) => dropPublication(session, name, oids));
  },
};

/** A table that came after the schema was copied. */
async function refuseMissing(context: MoveContext, tables: readonly PublishedTable[]): Promise<void> {
  const there = await context.session("target", publishedTables);
  const names = new Set(there.map(qualified));
  const missing = tables.filter((table) => !names.has(qualified(table)));
  if (missing.length === 0) return;
  const message = `tables of ${context.source.instance} are not on ${context.target.instance}: ${missing.map(qualified).join(", ")}`;
  throw new PgkitError("move-stopped", message, {
    hint: "they were made after the schema was copied: pgkit move rollback, then move again",
  });
}

/**
 * Rows of a copy that was undone or cut would be there twice. Only in a database that is still closed: nobody but the
 * move has written into it.
 */
async function emptyTables(context: MoveContext, session: Session, tables: readonly PublishedTable[]): Promise<void> {
  const full: PublishedTable[] = [];
  for (const table of tables) {
    const [row] = await session.query<{ has: boolean }>(
      `SELECT EXISTS (SELECT FROM ONLY ${qualified(table)} ${table.filter ?? ""}) AS has`,
    );
    if (row?.has === true) full.push(table);
  }
  const [first] = full;
  if (first === undefined) return;
  if ((await isClosed(session, context.move.database)) !== true) {
    const message = `database ${context.move.database} on ${context.target.instance} has rows and is open to others, such as ${qualified(first)}`;
    throw new PgkitError("refused-overwrite", message, {
      hint: "drop it there where nobody needs it, then move again",
    });
  }
  await session.query("BEGIN");
  await session.query(
    "SELECT set_config(name, 'replica', true) FROM (VALUES ('session_replication_role')) AS v (name) WHERE has_parameter_privilege(name, 'SET')",
  );
  // What an extension itself put into a table of its own stays.
  const [ofExtensions, own] = [tables.filter(({ filter }) => filter !== null), tables.filter((t) => t.filter === null)];
  for (const table of ofExtensions) await session.query(`DELETE FROM ONLY ${qualified(table)} ${table.filter}`);
  if (own.length > 0) await session.query(`TRUNCATE ONLY ${own.map(qualified).join(", ONLY ")}`);
  await session.query("COMMIT");
}

/** A slot begins when the transactions of the whole server have ended that write at this moment: so it says whose. */
async function withNoteOfOthers(context: MoveContext, session: Session, make: () => Promise<void>): Promise<void> {
  const others = await session.query<{ who: string }>(
    `SELECT format('%s in %s, process %s, for %s', usename, datname, pid, date_trunc('second', now() - xact_start)) AS who
     FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND xact_start < now() - interval '5 seconds'`,
  );
  if (others.length > 0) {
    const message = `waits for transactions on ${context.source.instance} to end: ${others.map(({ who }) => who).join("; ")}`;
    context.report({ type: "note", message });
  }
  await make();
}
