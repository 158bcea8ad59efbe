import { rfc3339 } from "../../lib/time.ts";
import { largeObjects } from "../../restore/content-sql.ts";
import { type Both, withBoth } from "../compare/both.ts";
import { compareBudgetMs } from "../compare/budget.ts";
import { compareContent } from "../compare/content.ts";
import { proofFailed } from "../compare/proof-failed.ts";
import { compareSequences } from "../compare/sequences.ts";
import { defaultBytesPerMs, type Survey, survey } from "../compare/survey.ts";
import { provableTables } from "../compare/table-list.ts";
import type { Difference, ProofReport } from "../proof-report.ts";
import { storeProof } from "../proof-store.ts";
import type { MoveContext, Step } from "../step.ts";
import { compareStructureStep } from "./compare-structure.ts";

/**
 * The proof, while writes are blocked and the target has everything: both sides stand still, so that all that is
 * compared must be the same. Fails with `proof-failed`, naming each object and both values; the report of that is stored.
 * One without differences is stored by `watch`, when the application writes again.
 */
export const compareStep: Step<undefined, ProofReport> = {
  name: "compare",
  does: "compares every table by number of rows and checksum, sequences, large objects, and what else may have changed",
  check: async (context) => (context.resultOf(compareStep) === undefined ? "todo" : "done"),
  prepare: openSessions,
  run: compareBoth,
  verify: async ({ move }, { differences }) => {
    if (differences.length > 0) throw proofFailed(move.database, differences);
  },
  undo: async () => undefined,
};

async function compareBoth(context: MoveContext): Promise<ProofReport> {
  const { clock, move } = context;
  const startedAt = rfc3339(clock.now());
  const startedMs = clock.monotonicMs();
  const { lsns, ...found } = await compareParts(context);
  const proof: ProofReport = {
    ...{ format: 1, move: move.id, database: move.database },
    source: { instance: move.source.instance, systemId: move.source.systemId, lsn: lsns.source },
    target: { instance: move.target.instance, systemId: move.target.systemId, lsn: lsns.target },
    state: stateOf(found),
    ...{ startedAt, finishedAt: rfc3339(clock.now()), durationMs: Math.round(clock.monotonicMs() - startedMs) },
    ...found,
  };
  if (proof.state === "different") await storeProof(context, proof);
  return proof;
}

/** Beside the workers that compare rows: one for the structure, one for what is neither. */
const pairsBeside = 2;

/** Opening a session takes longer than what most of them ask: the pool keeps them until rows stand still. */
async function openSessions(context: MoveContext): Promise<undefined> {
  const pairs = Array.from({ length: context.move.options.jobs + pairsBeside });
  await Promise.all(pairs.map(() => withBoth(context, async () => undefined)));
}

/** All at once, each with sessions of its own: nothing changes on either side. */
async function compareParts(context: MoveContext) {
  const known = context.resultOf(compareStructureStep);
  const [structure, content, others] = await Promise.all([
    withBoth(context, (both) => survey(context, both, known)),
    withBoth(context, (both) => compareRows(context, both, known)),
    withBoth(context, async (both) => ({
      lsns: await lsnsOf(both),
      sequences: await compareSequences(both),
      objects: await compareLargeObjects(both),
    })),
  ]);
  const { lsns, sequences, objects } = others;
  return {
    ...{ lsns, tables: content.tables, objects: structure.objects, sequences: sequences.count },
    ...{ largeObjects: objects.value, remarks: structure.remarks },
    differences: [structure, content, sequences, objects].flatMap(({ differences }) => differences),
  };
}

async function compareRows(context: MoveContext, both: Both, known: Survey | undefined) {
  const startedMs = context.clock.monotonicMs();
  const tables = await provableTables(both.source);
  const budgetMs = Math.max(0, compareBudgetMs(context.move) - (context.clock.monotonicMs() - startedMs));
  return await compareContent(context, both, tables, { budgetMs, bytesPerMs: known?.bytesPerMs ?? defaultBytesPerMs });
}

async function compareLargeObjects({ source, target }: Both) {
  const [here, there] = await Promise.all([largeObjects(source), largeObjects(target)]);
  const isSame = here === undefined || there === undefined || here === there;
  const differences: Difference[] = isSame
    ? []
    : [{ kind: "large objects", object: "all", of: "number and checksum", source: here, target: there }];
  return { value: here, differences };
}

async function lsnsOf({ source, target }: Both): Promise<{ source: string; target: string }> {
  const sql = "SELECT pg_current_wal_insert_lsn()::text AS lsn";
  const [[here], [there]] = await Promise.all([source.query<{ lsn: string }>(sql), target.query<{ lsn: string }>(sql)]);
  return { source: here?.lsn ?? "", target: there?.lsn ?? "" };
}

function stateOf({ differences, tables }: Pick<ProofReport, "differences" | "tables">): ProofReport["state"] {
  if (differences.length > 0) return "different";
  return tables.every(({ extent }) => extent === "whole") ? "proven" : "partly";
}
