import { identifier } from "../postgres/quote.ts";
import type { SourceTable } from "./source-tables.ts";

/** One COPY from source to target. */
export interface TableCopy {
  from: string;
  to: string;
  /** Run on the target before it, in the same transaction: empties a table that is copied by one COPY alone. */
  before: string | undefined;
  /** For progress and the order: about what the source has on its disk. */
  bytes: number;
  /** For messages. */
  table: string;
  /** Of the table, on the source. */
  oid: number;
}

/** A part that is smaller is not worth a session's while. */
const smallestPartBytes = 64 * 1024 ** 2;
const mostParts = 64;

/**
 * How the tables are copied: each by one COPY, the biggest first. A table that would keep one worker busy after all others
 * are done is cut into ranges of its blocks. What is not cut is frozen as it comes: no second writing of its pages when they
 * are read first, nor when they are vacuumed.
 */
export function planCopies(tables: readonly SourceTable[], jobs: number): TableCopy[] {
  const totalBytes = tables.reduce((sum, { bytes }) => sum + bytes, 0);
  const fairBytes = Math.max(smallestPartBytes, totalBytes / jobs);
  return tables.flatMap((table) => copiesOf(table, fairBytes, jobs)).toSorted((a, b) => b.bytes - a.bytes);
}

function copiesOf(table: SourceTable, fairBytes: number, jobs: number): TableCopy[] {
  const parts = table.heap && table.bytes > fairBytes ? partsOf(table, fairBytes / 2) : 1;
  if (parts > 1 && jobs > 1) return cut(table, parts);
  return [wholeCopy(table)];
}

function partsOf({ bytes, blocks }: SourceTable, partBytes: number): number {
  return Math.min(mostParts, blocks, Math.ceil(bytes / Math.max(partBytes, smallestPartBytes)));
}

function wholeCopy(table: SourceTable): TableCopy {
  const { schema, name, bytes } = table;
  const relation = relationOf(table);
  const list = columnList(table);
  const conditional = table.condition !== undefined;
  const what = conditional ? `(SELECT ${selectList(table)} FROM ${relation} ${table.condition})` : `${relation}${list}`;
  const freeze = table.heap && !conditional;
  return {
    from: `COPY ${what} TO STDOUT ${optionsOf(table)}`,
    to: `COPY ${relation}${list} FROM STDIN ${optionsOf(table, freeze)}`,
    // Of an extension's table only the user's rows are copied: the others the extension has made.
    before: conditional ? `DELETE FROM ${relation} ${table.condition}` : `TRUNCATE ONLY ${relation}`,
    ...{ bytes, table: `${schema}.${name}`, oid: table.oid },
  };
}

function cut(table: SourceTable, parts: number): TableCopy[] {
  const { schema, name, blocks, bytes } = table;
  const relation = relationOf(table);
  const at = (part: number) => Math.round((blocks / parts) * part);
  return Array.from({ length: parts }, (_, part) => {
    // The last one is open: the table may have grown since its blocks were counted.
    const until = part === parts - 1 ? "" : ` AND ctid < '(${at(part + 1)},0)'::tid`;
    const rows = `SELECT ${selectList(table)} FROM ONLY ${relation} WHERE ctid >= '(${at(part)},0)'::tid${until}`;
    return {
      from: `COPY (${rows}) TO STDOUT ${optionsOf(table)}`,
      to: `COPY ${relation}${columnList(table)} FROM STDIN ${optionsOf(table)}`,
      before: undefined,
      ...{ bytes: bytes / parts, table: `${schema}.${name}`, oid: table.oid },
    };
  });
}

function optionsOf({ binary, encoding }: SourceTable, freeze = false): string {
  const options = binary ? ["FORMAT binary"] : ["FORMAT text", `ENCODING '${encoding}'`];
  return `(${[...options, ...(freeze ? ["FREEZE"] : [])].join(", ")})`;
}

export function relationOf({ schema, name }: { schema: string; name: string }): string {
  return `${identifier(schema)}.${identifier(name)}`;
}

/** COPY takes no empty list: a table without columns is copied without one. */
function columnList({ columns }: SourceTable): string {
  return columns.length === 0 ? "" : ` (${columns.map(identifier).join(", ")})`;
}

function selectList({ columns }: SourceTable): string {
  return columns.map(identifier).join(", ");
}
