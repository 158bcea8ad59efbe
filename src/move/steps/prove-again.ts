import { PgkitError } from "../../lib/errors.ts";
import { rfc3339 } from "../../lib/time.ts";
import { withBoth, withWorkers } from "../compare/both.ts";
import { proofFailed } from "../compare/proof-failed.ts";
import { proveTable, proveWholeTable, type TableResult } from "../compare/prove-table.ts";
import { nameOf, type ProvableTable, provableTables } from "../compare/table-list.ts";
import { feedNames } from "../names.ts";
import { flushPosition, waitConfirmed } from "../position.ts";
import type { Difference, ProofReport, TableProof } from "../proof-report.ts";
import { folderOf, readProof, storeProof } from "../proof-store.ts";
import type { MoveContext, Step } from "../step.ts";
import { feedState } from "../subscription.ts";
import { compareStep } from "./compare.ts";

/**
 * Proves the rows for which there was no time while writes were blocked, against the source that the reverse feed keeps
 * alike, while the application writes. Fails with `proof-failed`; the old database is then kept.
 */
export const proveAgainStep: Step<undefined, ProofReport> = {
  name: "prove-again",
  does: "compares the rows that were only sampled while writes were blocked",
  check: async (context) => ((await lastProof(context)).state === "proven" ? "done" : "todo"),
  run: proveTheRest,
  verify: async ({ move }, proof) => {
    if (proof.state !== "proven") throw proofFailed(move.database, proof.differences, afterSwitch);
  },
  undo: async () => undefined,
};

const afterSwitch =
  "the application is on the target, and the old database is kept: look at the rows on both, or pgkit move rollback";

/** The newest: what `compare` found, or what is stored since. Fails with `move-refused` where there is none. */
export async function lastProof(context: MoveContext): Promise<ProofReport> {
  const { repository, move, signal } = context;
  const proof = (await readProof(repository, folderOf(move), { signal })) ?? context.resultOf(compareStep);
  if (proof !== undefined) return proof;
  throw new PgkitError("move-refused", `source and target of ${move.database} were never compared`, {
    hint: "pgkit move resume goes on with the move; without proof nothing is dropped",
  });
}

async function proveTheRest(context: MoveContext): Promise<ProofReport> {
  const { clock, move } = context;
  const startedMs = clock.monotonicMs();
  // Not what an earlier run of this step has stored: a difference that it met may be gone by now.
  const before = context.resultOf(compareStep) ?? (await lastProof(context));
  const left = before.tables.filter(({ extent }) => extent !== "whole");
  if (left.length > 0) await requireFeed(context);
  const { proven, differences } = await proveTables(context, left);
  const tables = before.tables.map((table) => proven.get(table.name) ?? table);
  const all = [...before.differences, ...differences];
  const proof: ProofReport = {
    ...{ ...before, tables, differences: all },
    state: all.length > 0 ? "different" : "proven",
    finishedAt: rfc3339(clock.now()),
    durationMs: before.durationMs + Math.round(clock.monotonicMs() - startedMs),
  };
  await storeProof(context, proof);
  if (all.length > 0) throw proofFailed(move.database, all, afterSwitch);
  return proof;
}

async function proveTables(context: MoveContext, left: readonly TableProof[]) {
  const { clock, report, move } = context;
  const task = `prove ${move.database}`;
  const totalBytes = left.reduce((sum, { bytes }) => sum + bytes, 0);
  const startedMs = clock.monotonicMs();
  report({ type: "start", task, totalBytes });
  const proven = new Map<string, TableProof>();
  const differences: Difference[] = [];
  let bytes = 0;
  const known = await context.session("source", provableTables);
  await withWorkers(context, left, async (both, before) => {
    const table = known.find((each) => nameOf(each) === before.name);
    const { rows, settledRows, differences: found } = await proveOne(context, both, table, before.name);
    proven.set(before.name, { ...before, extent: "whole", rows, settledRows, at: rfc3339(clock.now()) });
    differences.push(...found);
    bytes += before.bytes;
    report({ type: "progress", task, bytes, totalBytes });
  });
  report({ type: "done", task, bytes, seconds: (clock.monotonicMs() - startedMs) / 1000 });
  return { proven, differences };
}

async function proveOne(
  context: MoveContext,
  both: Parameters<typeof proveTable>[0],
  table: ProvableTable | undefined,
  name: string,
): Promise<TableResult> {
  const catchUp = () => catchUpBack(context);
  if (table === undefined) {
    const difference: Difference = { kind: "table", object: name, source: undefined, target: "there" };
    return { rows: 0, settledRows: 0, differences: [difference] };
  }
  const { key } = table;
  if (key === undefined) return proveWholeTable(both, table, catchUp);
  return withBoth(context, (apart) => proveTable(both, apart, { ...table, key }, catchUp));
}

/** The source has all that the target has committed until now. */
async function catchUpBack(context: MoveContext): Promise<void> {
  const lsn = await context.session("target", flushPosition);
  await waitConfirmed(context, { from: "target", name: feedNames(context.move).back, lsn });
}

async function requireFeed(context: MoveContext): Promise<void> {
  const { publication, slot, subscription } = await feedState(context, "target", feedNames(context.move).back);
  if (publication && slot && subscription === "enabled") return;
  const { database, options } = context.move;
  const why = options.reverseFeed ? "the feed back to the source is gone" : "the move has no way back";
  throw new PgkitError("proof-failed", `the rest of ${database} cannot be proven: ${why}`, {
    hint: "the old database is kept: compare it by hand, and drop it by hand",
  });
}
