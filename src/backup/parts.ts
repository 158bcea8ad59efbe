import type { TableEntry } from "../postgres/database-facts.ts";

/** What one run of pg_dump writes. `rest` is all data but that of the tables in the other parts. */
export type DumpPart =
  | { role: "archive" }
  | { role: "schema" }
  | { role: "data"; tables: readonly TableName[] }
  | { role: "data"; except: readonly TableName[] };

export interface TableName {
  schema: string;
  name: string;
}

export interface PartsRequest {
  /** Biggest first. */
  tables: readonly TableEntry[];
  jobs: number;
  /** A database whose tables hold less than this is one archive. */
  wholeBelowBytes: number;
  /** The database's, which is that of pg_dump's arguments, too. */
  encoding: string;
}

/** More tables than this in one pg_dump make its arguments, and the query it sends for them, long. */
const mostTablesAPart = 250;

/**
 * Cuts a big database into parts of about the same size for pg_dumps that run at the same time under one snapshot, the
 * biggest first. A table is never cut: pg_dump cannot, and a COPY of our own with the rows split by ctid was measured to
 * be slower, since on two cores what counts is the work in all, and pg_dump's own zstd is the cheapest way there is.
 */
export function planParts({ tables, jobs, wholeBelowBytes, encoding }: PartsRequest): DumpPart[] {
  const ordinary = tables.filter((table) => table.kind === "r" && !table.ofExtension);
  const totalBytes = ordinary.reduce((sum, table) => sum + table.bytes, 0);
  if (jobs < 2 || totalBytes < wholeBelowBytes) return [{ role: "archive" }];
  // Our arguments are UTF-8: of another encoding, only names of ASCII can be told to pg_dump.
  const nameable = encoding === "UTF8" ? ordinary : ordinary.filter(({ schema, name }) => isAscii(schema + name));
  const bins = pack(nameable, totalBytes / (4 * jobs), 4 * jobs - 1);
  const taken = bins.flatMap((bin) => bin.tables);
  const parts: DumpPart[] = bins.map((bin) => ({ role: "data", tables: bin.tables }));
  return [...parts, { role: "data", except: taken }, { role: "schema" }];
}

/** pg_dump's arguments for a part. */
export function partArguments(part: DumpPart): string[] {
  if (part.role === "archive") return [];
  if (part.role === "schema") return ["--section=pre-data", "--section=post-data"];
  if ("except" in part)
    return ["--section=data", ...part.except.map((table) => `--exclude-table-data=${pattern(table)}`)];
  return ["--section=data", "--strict-names", ...part.tables.map((table) => `--table=${pattern(table)}`)];
}

/** Fills bins to about `binBytes`, biggest tables first; a table larger than that has a bin of its own. */
function pack(tables: readonly TableEntry[], binBytes: number, mostBins: number): { tables: TableName[] }[] {
  const bins: { tables: TableName[]; bytes: number }[] = [];
  for (const { schema, name, bytes } of tables) {
    const last = bins.at(-1);
    const fits = last !== undefined && last.bytes + bytes <= binBytes && last.tables.length < mostTablesAPart;
    if (fits) {
      last.tables.push({ schema, name });
      last.bytes += bytes;
    } else if (bins.length < mostBins) {
      bins.push({ tables: [{ schema, name }], bytes });
    } else {
      break;
    }
  }
  return bins;
}

/** True for what is the same in every encoding of a database. */
export function isAscii(text: string): boolean {
  return [...text].every((character) => character < "\u0080");
}

/** Inside double quotes all is literal in pg_dump's patterns, but for the quote itself. */
function pattern({ schema, name }: TableName): string {
  return [schema, name].map((part) => `"${part.replaceAll('"', '""')}"`).join(".");
}
