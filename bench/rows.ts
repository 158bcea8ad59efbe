import { type Contender, interleave, median, type Sample } from "./measure.ts";

export const rounds = Number(process.env.PGKIT_BENCH_ROUNDS ?? 3);
/** 1 is the size that the targets are about; less is for trying out. */
export const scale = Number(process.env.PGKIT_BENCH_SCALE ?? 1);

/** One line of the results. */
export interface Row {
  what: string;
  peer: string;
  peerSeconds: number;
  ourSeconds: number;
  ratio: number;
  target: number | undefined;
  peakMiB: number;
  note: string;
}

/** What the two contenders `peer` and `pgkit` took in the median, each so many times in turn. */
export async function compare(
  what: string,
  peer: string,
  target: number | undefined,
  note: string,
  contenders: readonly Contender[],
  times = rounds,
): Promise<Row> {
  console.error(`${what}:`);
  return rowOf({ what, peer, target, note }, await interleave(contenders, times));
}

/** The row of one contender beside the one that is called `peer`. */
export function rowOf(
  { what, peer, target, note }: Pick<Row, "what" | "peer" | "target" | "note">,
  samples: ReadonlyMap<string, readonly Sample[]>,
  name = "pgkit",
): Row {
  const secondsOf = (name: string) => median((samples.get(name) ?? []).map(({ seconds }) => seconds));
  const [peerSeconds, ourSeconds] = [secondsOf("peer"), secondsOf(name)];
  const peakMiB = Math.max(...(samples.get(name) ?? []).map(({ peakBytes }) => peakBytes)) / 1024 ** 2;
  return { what, peer, peerSeconds, ourSeconds, ratio: ourSeconds / peerSeconds, target, peakMiB, note };
}

/**
 * The text of results.md: lines of the last results that were measured anew are replaced, others stay, and so does what
 * is written below the table.
 */
export function report(rows: readonly Row[], heading: string, last: string): string {
  const lines = new Map<string, string>();
  const [, kept = "", below = ""] = /\|---[^\n]*\n((?:\|[^\n]*\n)*)(.*)$/s.exec(last) ?? [];
  for (const line of kept.split("\n")) if (line !== "") lines.set(whatOf(line), line);
  for (const row of rows) lines.set(row.what, lineOf(row));
  return `# Results of \`npm run bench\`

${heading}

| what | peer | peer | pgkit | ratio | at most | peak | |
|---|---|---:|---:|---:|---:|---:|---|
${[...lines.values()].join("\n")}
${below}`;
}

function whatOf(line: string): string {
  return line.split("|")[1]?.trim() ?? "";
}

function lineOf({ what, peer, peerSeconds, ourSeconds, ratio, target, peakMiB, note }: Row): string {
  const times = `${peerSeconds.toFixed(2)} s | ${ourSeconds.toFixed(2)} s | ${ratio.toFixed(2)} | ${target ?? ""}`;
  return `| ${what} | ${peer} | ${times} | ${peakMiB.toFixed(0)} MiB | ${note} |`;
}
