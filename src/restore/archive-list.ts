import type { Bytes } from "../lib/streams.ts";
import { type ToolTarget, toolInput } from "../postgres/tools.ts";

/** One line of an archive's table of contents, as `pg_restore --list` prints it and `--use-list` takes it. */
export interface ArchiveEntry {
  line: string;
  /** pg_class.oid of the table, for its rows. */
  oid: number;
  /** Such as `TABLE DATA` or `FK CONSTRAINT`, with schema, tag and owner after it. */
  rest: string;
}

/** The table of contents of an archive; reads no further into `archive` than it has to. */
export async function listArchive(target: ToolTarget, archive: Bytes): Promise<ArchiveEntry[]> {
  const text = await toolInput(target, "pg_restore", ["--list"], archive, { mayStopReading: true });
  return text.split("\n").flatMap((line) => {
    const [, oid, rest] = /^\d+; \d+ (\d+) (.+)$/.exec(line) ?? [];
    return rest === undefined ? [] : [{ line, oid: Number(oid), rest }];
  });
}

/** False for the rows of other tables than these. Told by oid: names there are cut at line breaks and not quoted. */
export function isWanted({ oid, rest }: ArchiveEntry, tables: readonly { oid?: number | undefined }[]): boolean {
  return !rest.startsWith("TABLE DATA ") || tables.some((table) => table.oid === oid);
}

export function isForeignKey(entry: ArchiveEntry): boolean {
  return entry.rest.startsWith("FK CONSTRAINT ");
}

/** The text for `--use-list`. */
export function useList(entries: readonly ArchiveEntry[]): string {
  return `${entries.map((entry) => entry.line).join("\n")}\n`;
}
