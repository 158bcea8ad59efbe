import type { Difference, ProofExtent, ProofReport, TableProof } from "./proof-report.ts";

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
