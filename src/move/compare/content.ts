import type { Clock } from "../../lib/time.ts";
import { rfc3339 } from "../../lib/time.ts";
import { countRows } from "../../postgres/database-facts.ts";
import { hashesOfTables } from "../../restore/content-sql.ts";
import type { Difference, TableProof } from "../proof-report.ts";
import type { MoveContext } from "../step.ts";
import { type Both, withWorkers } from "./both.ts";
import { planTables } from "./plan-tables.ts";
import { type KeyedTable, lookUp, pickRows } from "./rows.ts";
import { nameOf, type ProvableTable } from "./table-list.ts";

export interface ContentBudget {
  /** Infinity: everything is compared in full. */
  readonly budgetMs: number;
  readonly bytesPerMs: number;
}

export interface ContentProof {
  readonly tables: TableProof[];
  readonly differences: Difference[];
}

/** Tables below this size are compared many in one statement. */
const smallBytes = 1024 * 1024;
const smallTogether = 40;

/**
 * Compares the rows of both sides, which must stand still: in full what fits the budget, and of the rest random pages and
 * the newest ones, until the time is over. Pages are picked on either side in turn and looked up by key on the other.
 */
export async function compareContent(
  context: MoveContext,
  there: Both,
  tables: readonly ProvableTable[],
  budget: ContentBudget,
): Promise<ContentProof> {
  const { clock } = context;
  const deadlineMs = clock.monotonicMs() + budget.budgetMs;
  const plan = planTables(tables, { ...budget, jobs: context.move.options.jobs });
  const proof: ContentProof = { tables: [], differences: [] };
  const counted = new Set(plan.counted);
  const tasks = [
    ...batches(plan.whole).map((batch) => (both: Both) => compareWhole(both, batch, proof, clock)),
    ...plan.sampled.map(
      (table) => (both: Both) => compareSample(both, table, { counts: counted.has(table), deadlineMs, clock, proof }),
    ),
  ];
  await withWorkers(context, tasks, (both, task) => task(both), there);
  proof.tables.sort((a, b) => b.bytes - a.bytes || a.name.localeCompare(b.name));
  return proof;
}

function batches(tables: readonly ProvableTable[]): ProvableTable[][] {
  const big = tables.filter(({ bytes }) => bytes >= smallBytes);
  const small = tables.filter(({ bytes }) => bytes < smallBytes);
  const together: ProvableTable[][] = [];
  for (let first = 0; first < small.length; first += smallTogether) {
    together.push(small.slice(first, first + smallTogether));
  }
  return [...big.map((table) => [table]), ...together];
}

async function compareWhole(
  { source, target }: Both,
  tables: readonly ProvableTable[],
  proof: ContentProof,
  clock: Clock,
) {
  const [wanted, found] = await Promise.all([hashesOfTables(source, tables), hashesOfTables(target, tables)]);
  const at = rfc3339(clock.now());
  for (const [index, table] of tables.entries()) {
    const [here, there] = [wanted[index], found[index]];
    if (here === undefined || there === undefined) throw new Error("a table gave no hash");
    const name = nameOf(table);
    proof.tables.push({ name, extent: "whole", bytes: table.bytes, rows: here.rows, checksum: here.hash, at });
    proof.differences.push(...differing(name, here, there));
  }
}

/** The number of rows first: where that differs already, no checksum can be the same. */
export function differing(
  object: string,
  here: { rows: number; hash: string },
  there: { rows: number; hash: string },
): Difference[] {
  if (here.rows !== there.rows) {
    return [{ kind: "table", object, of: "number of rows", source: `${here.rows}`, target: `${there.rows}` }];
  }
  if (here.hash === there.hash) return [];
  const of = `checksum of the ${here.rows} rows`;
  return [{ kind: "table", object, of, source: here.hash, target: there.hash }];
}

interface Sampling {
  counts: boolean;
  deadlineMs: number;
  clock: Clock;
  proof: ContentProof;
}

async function compareSample(both: Both, table: ProvableTable, sampling: Sampling): Promise<void> {
  const { counts, clock, proof } = sampling;
  const name = nameOf(table);
  const rows = counts ? await compareCounts(both, table, proof) : undefined;
  const sampledRows = table.key === undefined ? undefined : await samples(both, { ...table, key: table.key }, sampling);
  proof.tables.push({
    ...{ name, bytes: table.bytes, at: rfc3339(clock.now()) },
    extent: sampledRows === undefined ? "left" : "sampled",
    ...(rows === undefined ? {} : { rows }),
    ...(sampledRows === undefined ? {} : { sampledRows }),
  });
}

async function compareCounts({ source, target }: Both, table: ProvableTable, proof: ContentProof): Promise<number> {
  const [[here = 0], [there = 0]] = await Promise.all([countRows(source, [table]), countRows(target, [table])]);
  const object = nameOf(table);
  if (here !== there)
    proof.differences.push({ kind: "table", object, of: "number of rows", source: `${here}`, target: `${there}` });
  return here;
}

const pagesAtOnce = 16;

/** At least the newest pages of either side, however late it is: what came last is what a move most likely loses. */
async function samples(both: Both, table: KeyedTable, { deadlineMs, clock, proof }: Sampling): Promise<number> {
  const last = Math.max(0, table.pages - pagesAtOnce);
  let rows = 0;
  for (let round = 0; round < 2 || clock.monotonicMs() < deadlineMs; round++) {
    const first = round < 2 ? last : Math.floor(clock.random() * (last + 1));
    const [from, to] = round % 2 === 0 ? [both.source, both.target] : [both.target, both.source];
    const picked = await pickRows(from, table, { first, end: first + pagesAtOnce });
    const found = picked.rows === 0 ? picked : await lookUp(to, table, picked.keys);
    rows += picked.rows;
    const [here, there] = round % 2 === 0 ? [picked, found] : [found, picked];
    const differences = differing(nameOf(table), here, there);
    if (differences.length === 0) continue;
    proof.differences.push(
      ...differences.map((difference) => ({ ...difference, of: `${difference.of} of ${picked.rows} looked up` })),
    );
    break;
  }
  return rows;
}
