import type { Bytes } from "../lib/streams.ts";
import { type ToolTarget, toolInput } from "../postgres/tools.ts";

/** One line of an archive's table of contents, as `pg_restore --list` prints it and `--use-list` takes it. */
export interface ArchiveEntry {
  line: string;
  /** Such as `TABLE DATA` or `FK CONSTRAINT`, with schema, tag and owner after it. */
  rest: string;
}

/** The table of contents of an archive; reads no further into `archive` than it has to. */
export async function listArchive(target: ToolTarget, archive: Bytes): Promise<ArchiveEntry[]> {
  const text = await toolInput(target, "pg_restore", ["--list"], archive, { mayStopReading: true });
  return text.split("\n").flatMap((line) => {
    const [, rest] = /^\d+; \d+ \d+ (.+)$/.exec(line) ?? [];
    return rest === undefined ? [] : [{ line, rest }];
  });
}

/** True for the entry with the rows of the table, or with the value of a sequence of that name. */
export function isDataOf(entry: ArchiveEntry, tables: readonly { schema: string; name: string }[]): boolean {
  return tables.some(({ schema, name }) => {
    const tag = `${clean(schema)} ${clean(name)} `;
    return entry.rest.startsWith(`TABLE DATA ${tag}`) || entry.rest.startsWith(`SEQUENCE SET ${tag}`);
  });
}

export function isForeignKey(entry: ArchiveEntry): boolean {
  return entry.rest.startsWith("FK CONSTRAINT ");
}

/** The text for `--use-list`. */
export function useList(entries: readonly ArchiveEntry[]): string {
  return `${entries.map((entry) => entry.line).join("\n")}\n`;
}

/** pg_dump writes line breaks in names as blanks there. */
function clean(name: string): string {
  return name.replaceAll(/[\r\n]/g, " ");
}
