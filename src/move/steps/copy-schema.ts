import { PgkitError } from "../../lib/errors.ts";
import type { Session } from "../../postgres/session.ts";
import { postEntries } from "../post-data.ts";
import { missingTablespaces, type SchemaArchive, withSchemaArchive } from "../schema-archive.ts";
import { hasReached, requireOurs, setStage, stageOf } from "../stage.ts";
import type { MoveContext, Step } from "../step.ts";
import { remakeTargetDatabase } from "../target-database.ts";
import { createDatabaseStep } from "./create-database.ts";

export const copySchemaStep: Step<{ subscriptions: readonly string[] }, { relations: number }> = {
  name: "copy-schema",
  does: "copies extensions, schemas, types, functions, tables and views to the target, without indexes but those that a subscription needs",
  check: async (context, plan) => {
    if (plan === undefined) return "todo";
    if (await hasReached(context, "schema copied")) return "done";
    return (await stageOf(context)) === "made" && !(await isEmpty(context)) ? "partial" : "todo";
  },
  prepare,
  run: async (context) => {
    await requireOurs(context);
    if (!(await hasReached(context, "schema copied"))) await copySchema(context);
    return { relations: (await relationsOf(context, "target")).length };
  },
  verify: async (context, { relations }) => {
    const [wanted, found] = await Promise.all([relationsOf(context, "source"), relationsOf(context, "target")]);
    const missing = wanted.filter((name) => !found.includes(name));
    if (missing.length === 0) return;
    const message = `of the source's tables, views and sequences ${missing.slice(0, 5).join(", ")} is not among the ${relations} on the target`;
    throw new PgkitError("verification-failed", message, {
      hint: "was the schema changed meanwhile? roll the move back and begin anew, without DDL until it is finished",
    });
  },
  undo: async (context) => {
    const stage = await stageOf(context);
    if (stage === "absent" || stage === "foreign" || (stage === "made" && (await isEmpty(context)))) return;
    await remake(context);
  },
};

async function prepare(context: MoveContext): Promise<{ subscriptions: readonly string[] }> {
  const { move, source, report } = context;
  const rows = await context.session("source", (session) =>
    session.query<{ name: string; ours: boolean }>(
      `SELECT subname AS name, subname ~ '^pgkit_' AS ours FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
       WHERE d.datname = current_database()`,
    ),
  );
  const subscriptions = rows.filter(({ ours }) => !ours).map(({ name }) => name);
  for (const name of subscriptions) {
    const message = `subscription ${name} of ${move.database} on ${source.instance} is not copied: two would share its slot`;
    report({ type: "warning", message, hint: "make it on the target after the switch, with the slot of the old one" });
  }
  if (move.mode === "online") await refuseAlwaysTriggers(context);
  const tablespaces = await missingTablespaces(context);
  if (tablespaces.length === 0) return { subscriptions };
  const message = `tablespace ${tablespaces.join(", ")} is not on ${context.target.instance}: all tables go to the database's own`;
  report({ type: "warning", message, hint: "CREATE TABLESPACE there first, where that matters" });
  return { subscriptions };
}

/** They would fire on the target too when a change is applied, on top of what they did on the source. */
async function refuseAlwaysTriggers({ session, move }: MoveContext): Promise<void> {
  const [found] = await session("source", (source) =>
    source.query<{ name: string }>(
      `SELECT format('%s of table %s', tgname, tgrelid::regclass) AS name FROM pg_trigger
       WHERE NOT tgisinternal AND tgenabled IN ('A', 'R') LIMIT 1`,
    ),
  );
  if (found === undefined) return;
  throw new PgkitError("move-refused", `trigger ${found.name} of ${move.database} fires for replicated changes too`, {
    hint: "move it --offline, or ALTER TABLE ... ENABLE TRIGGER (without ALWAYS or REPLICA) for the time of the move",
  });
}

async function copySchema(context: MoveContext): Promise<void> {
  if (!(await isEmpty(context))) await remake(context);
  await withSchemaArchive(context, async (archive) => {
    await archive.load(await archive.list("pre-data"));
    if (context.move.mode === "online") await loadIdentities(context, archive);
  });
  await setStage(context, "schema copied");
}

/** On empty tables they take no time; without them every change to be applied would read its whole table. */
async function loadIdentities(context: MoveContext, archive: SchemaArchive): Promise<void> {
  const entries = await postEntries(context, archive);
  await archive.load(entries.filter(({ identifies, exists, ofView }) => identifies && !exists && !ofView));
  const statements = await context.session("source", attachments);
  await context.session("target", async (target) => {
    for (const { statement } of statements) await target.query(statement);
  });
}

/** A partitioned table has its key only when those of all its partitions are attached to it. */
async function attachments(session: Session): Promise<{ statement: string }[]> {
  return session.query(
    `SELECT DISTINCT format('ALTER INDEX %s ATTACH PARTITION %s', inhparent::regclass, inhrelid::regclass) AS statement
     FROM pg_inherits JOIN pg_index ON indexrelid = inhrelid
       LEFT JOIN pg_constraint ON conindid = inhrelid AND contype IN ('p', 'u')
     WHERE indisreplident OR contype IS NOT NULL`,
  );
}

async function remake(context: MoveContext): Promise<void> {
  const plan = context.planOf(createDatabaseStep);
  if (plan === undefined) throw new Error("copy-schema without the plan of create-database");
  await remakeTargetDatabase(context, plan);
}

/** True where nobody has made anything in it: what initdb makes has oids below 16384. */
async function isEmpty({ session }: MoveContext): Promise<boolean> {
  const [found] = await session("target", (target) =>
    target.query<{ empty: boolean }>(
      `SELECT NOT EXISTS (SELECT FROM pg_class WHERE oid >= 16384) AND NOT EXISTS (SELECT FROM pg_type WHERE oid >= 16384)
         AND NOT EXISTS (SELECT FROM pg_proc WHERE oid >= 16384) AND NOT EXISTS (SELECT FROM pg_namespace WHERE oid >= 16384)
         AND NOT EXISTS (SELECT FROM pg_extension WHERE oid >= 16384)
         AND NOT EXISTS (SELECT FROM pg_largeobject_metadata) AS empty`,
    ),
  );
  return found?.empty === true;
}

async function relationsOf({ session }: MoveContext, side: "source" | "target"): Promise<string[]> {
  const relations = (using: Session) =>
    using.query<{ name: string }>(
      `SELECT format('%I.%I', nspname, relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
       WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c') AND relpersistence <> 't' AND c.oid >= 16384 AND nspname !~ '^pg_'
         AND nspname <> 'information_schema' ORDER BY 1`,
    );
  return (await session(side, relations)).map(({ name }) => name);
}
