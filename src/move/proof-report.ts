/** What differs: an object, and what is compared of it, on both sides; `undefined` where it is not there. */
export interface Difference {
  /** As `table`, `index`, `sequence value`. */
  readonly kind: string;
  readonly object: string;
  /** Such as `definition`, `owner`, `rows`; left out where the object itself is on one side only. */
  readonly of?: string | undefined;
  readonly source: string | undefined;
  readonly target: string | undefined;
}

/**
 * `whole`: every row on both servers. `sampled`: rows of random places and the newest ones, each looked up on the other
 * server, and the number of all rows where `rows` is there. `left`: not looked at yet.
 */
export type ProofExtent = "whole" | "sampled" | "left";

export interface TableProof {
  /** As SQL spells it. */
  readonly name: string;
  readonly extent: ProofExtent;
  readonly bytes: number;
  readonly rows?: number | undefined;
  /** Of all rows, in any order; the same on both sides. */
  readonly checksum?: string | undefined;
  readonly sampledRows?: number | undefined;
  /** Rows that were changed meanwhile, and were compared again under a lock. */
  readonly settledRows?: number | undefined;
  readonly at: string;
}

/** What was compared of source and target. Holds names and counts, and no row. */
export interface ProofReport {
  readonly format: 1;
  readonly move: string;
  readonly database: string;
  readonly source: { readonly instance: string; readonly systemId: string; readonly lsn: string };
  readonly target: { readonly instance: string; readonly systemId: string; readonly lsn: string };
  /** `partly`: nothing differs, and what is left is proven by `prove-again`. */
  readonly state: "proven" | "partly" | "different";
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly durationMs: number;
  readonly tables: readonly TableProof[];
  /** Objects compared, by kind. */
  readonly objects: Readonly<Record<string, number>>;
  readonly sequences: number;
  /** `undefined` where pgkit may not read them all. */
  readonly largeObjects: string | undefined;
  readonly differences: readonly Difference[];
  /** What could not be compared, or not in full, and why. */
  readonly remarks: readonly string[];
}

/** One sentence a difference, naming the object and both values. */
export function differenceText({ kind, object, of, source, target }: Difference): string {
  const name = `${kind} ${object}`;
  if (of === undefined) {
    return target === undefined ? `${name} is not on the target` : `${name} is on the target only`;
  }
  return `${name}: ${of} is ${shown(target)} on the target, ${shown(source)} on the source`;
}

/** The report for people to read. */
export function proofText(report: ProofReport): string {
  const { source, target, tables, objects, differences, remarks } = report;
  const rows = tables.reduce((sum, table) => sum + (table.rows ?? 0), 0);
  const kinds = Object.entries(objects).filter(([, count]) => count > 0);
  return [
    `Proof of the move ${report.move} of database ${report.database}: ${report.state}`,
    ``,
    `source     ${source.instance}, system id ${source.systemId}, at ${source.lsn}`,
    `target     ${target.instance}, system id ${target.systemId}, at ${target.lsn}`,
    `compared   ${report.startedAt} to ${report.finishedAt}, in ${report.durationMs} ms`,
    `tables     ${tables.length}, ${rows} rows; ${extents(tables)}`,
    `sequences  ${report.sequences}`,
    `objects    ${kinds.map(([kind, count]) => `${count} ${kind}`).join(", ")}`,
    ``,
    ...(differences.length === 0 ? ["Nothing differs."] : ["Differences:", ...differences.map(bulleted)]),
    ...(remarks.length === 0 ? [] : ["", "Remarks:", ...remarks.map((remark) => `- ${remark}`)]),
    ``,
    "Tables (extent, rows, checksum):",
    ...tables.map(tableLine),
    ``,
  ].join("\n");
}

function bulleted(difference: Difference): string {
  return `- ${differenceText(difference)}`;
}

function extents(tables: readonly TableProof[]): string {
  const count = (extent: ProofExtent) => tables.filter((table) => table.extent === extent).length;
  return `${count("whole")} whole, ${count("sampled")} sampled, ${count("left")} left`;
}

function tableLine({ name, extent, rows, checksum, sampledRows, settledRows }: TableProof): string {
  return [
    `${name}: ${extent}`,
    ...(rows === undefined ? [] : [`${rows} rows`]),
    ...(checksum === undefined ? [] : [checksum]),
    ...(sampledRows === undefined ? [] : [`${sampledRows} rows looked up`]),
    ...(settledRows ? [`${settledRows} rows compared under a lock`] : []),
  ].join(", ");
}

function shown(value: string | undefined): string {
  if (value === undefined) return "not there";
  const flat = value.replaceAll(/\s+/g, " ");
  return flat.length > 400 ? `${flat.slice(0, 400)}...` : flat;
}
