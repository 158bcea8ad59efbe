import { isPgkitError, PgkitError } from "../../lib/errors.ts";
import { labelStatements, settingStatements } from "../../postgres/database-scripts.ts";
import { analyzeAll } from "../analyze.ts";
import { isBuild, planBuilds, runBuilds } from "../build-order.ts";
import { buildSettings } from "../build-settings.ts";
import { dropInvalidIndexes, dropPostData } from "../drop-post-data.ts";
import { type PostEntry, postEntries } from "../post-data.ts";
import { type SchemaArchive, withSchemaArchive } from "../schema-archive.ts";
import { hasReached, markStatement, requireOurs, setStage, stageOf } from "../stage.ts";
import type { MoveContext, Step } from "../step.ts";
import { runOnTarget } from "../target-database.ts";

export const buildIndexesStep: Step<{ entries: number }, { built: number }> = {
  name: "build-indexes",
  does: "builds indexes and constraints on the target, several at once, then triggers, rules, policies and all else, and the planner's statistics",
  check: async (context, plan) => {
    if (plan === undefined) return "todo";
    return (await hasReached(context, "indexes built")) ? "done" : "todo";
  },
  prepare: async (context) => ({
    entries: await context.session("source", async (session) => {
      const [row] = await session.query<{ count: number }>(
        "SELECT count(*)::int AS count FROM pg_index WHERE indexrelid >= 16384",
      );
      return row?.count ?? 0;
    }),
  }),
  run: async (context) => {
    await requireOurs(context);
    if (await hasReached(context, "indexes built")) return { built: 0 };
    return { built: await buildAll(context) };
  },
  verify: async (context) => {
    const missing = await withSchemaArchive(context, async (archive) => {
      const entries = await postEntries(context, archive);
      return entries.filter(({ exists, type }) => !exists && (type === "INDEX" || /CONSTRAINT$/.test(type)));
    });
    if (missing.length === 0) return;
    const names = missing.slice(0, 5).map(({ line }) => line.replace(/^[\d; ]+/, ""));
    throw new PgkitError("verification-failed", `not on ${context.target.instance}: ${names.join(", ")}`, {
      hint: "was the schema changed meanwhile? roll the move back and begin anew, without DDL until it is finished",
    });
  },
  undo: async (context) => {
    const stage = await stageOf(context);
    if (stage === "absent" || stage === "foreign" || stage === "made") return;
    await setStage(context, context.move.mode === "offline" ? "data copied" : "schema copied");
    await dropPostData(context);
  },
};

/** In the order in which nothing is in the way of what follows; event triggers, which could refuse all of it, last. */
async function buildAll(context: MoveContext): Promise<number> {
  const { clock, report, move } = context;
  const startedMs = clock.monotonicMs();
  const task = `build indexes of ${move.database}`;
  report({ type: "start", task });
  const built = await withSchemaArchive(context, async (archive) => {
    await dropInvalidIndexes(context);
    const entries = await postEntries(context, archive);
    const eventTriggers = entries.filter(isOfEventTrigger);
    // One of them there already: a run that was cut then had all the rest.
    if (!eventTriggers.some(({ exists }) => exists)) await buildRest(context, archive, entries);
    await archive.load(eventTriggers.filter(({ exists }) => !exists));
    return entries.filter(({ exists }) => !exists).length;
  });
  await runOnTarget(context, await settingsScript(context), move.database);
  report({ type: "done", task, seconds: (clock.monotonicMs() - startedMs) / 1000, summary: `${built} objects` });
  return built;
}

async function buildRest(context: MoveContext, archive: SchemaArchive, all: readonly PostEntry[]): Promise<void> {
  const { jobs } = context.move.options;
  const entries = all.filter((entry) => !entry.exists && !isOfEventTrigger(entry));
  const settings = await context.session("target", (session) => buildSettings(session, jobs));
  const load = (some: readonly PostEntry[], atOnce = 1) =>
    patiently(context, () => archive.load(some, { jobs: atOnce, settings }));
  const builds = entries.filter(isBuild);
  const attach = entries.filter(({ type }) => type === "INDEX ATTACH");
  const foreignKeys = entries.filter(({ type }) => type === "FK CONSTRAINT");
  const done = new Set([...builds, ...attach, ...foreignKeys]);
  await runBuilds(planBuilds(builds), jobs, (build) => load(build.entries));
  await load(attach);
  await load(foreignKeys, jobs);
  await load(entries.filter((entry) => !done.has(entry)));
  await analyzeAll(context);
}

function isOfEventTrigger({ type }: PostEntry): boolean {
  return type.endsWith("EVENT TRIGGER");
}

/** While a subscription follows, its worker can hold what a statement needs, and the other way round: one of them gives way. */
const attempts = 5;

async function patiently(context: MoveContext, work: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      const gaveWay = isPgkitError(error, "tool-failed") && /deadlock detected/.test(error.message);
      if (!gaveWay || attempt === attempts) throw error;
      context.signal.throwIfAborted();
    }
  }
}

/** Last, as they could stop what comes before: default_transaction_read_only and the like. With the mark in one transaction. */
async function settingsScript(context: MoveContext): Promise<string> {
  const statements = await context.session("source", async (session) => [
    ...(await settingStatements(session)),
    ...(await labelStatements(session)),
  ]);
  const all = [
    "\\encoding UTF8",
    "BEGIN;",
    ...[...statements, markStatement(context, "indexes built", ':"database"')].map((each) => `${each};`),
  ];
  return `${[...all, "COMMIT;"].join("\n")}\n`;
}
