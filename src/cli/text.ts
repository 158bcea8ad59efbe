/**
 * The text with every character that a terminal would obey, and every one that turns the direction of writing, made
 * visible: a database may be called anything. Line feeds stay; in a single cell use `oneLine`.
 */
export function harmless(text: string): string {
  return text.replaceAll(unsafe, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u{${code.toString(16)}}`;
  });
}

/** Like `harmless`, and on one line. */
export function oneLine(text: string): string {
  return harmless(text).replaceAll("\n", "\\n").replaceAll("\t", "\\t");
}

/** Control characters but line feed and tab, and the bidirectional overrides. */
const unsafe = /[^\P{Cc}\n\t]|[\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu;

export interface Column {
  readonly title: string;
  readonly align?: "right";
}

/** A table in plain text: a line of titles, then the rows, each cell on one line. */
export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const cells = [columns.map((column) => column.title), ...rows.map((row) => row.map(oneLine))];
  const widths = columns.map((_, index) => Math.max(...cells.map((row) => width(row[index] ?? ""))));
  const line = (row: readonly string[]) =>
    columns
      .map((column, index) => pad(row[index] ?? "", widths[index] ?? 0, column.align))
      .join("  ")
      .trimEnd();
  return cells.map(line).join("\n");
}

function pad(cell: string, to: number, align: "right" | undefined): string {
  const space = " ".repeat(Math.max(0, to - width(cell)));
  return align === "right" ? space + cell : cell + space;
}

/** Columns on a terminal, near enough: wide East Asian characters and emoji take two, combining marks none. */
function width(text: string): number {
  let columns = 0;
  for (const { segment } of new Intl.Segmenter().segment(text)) {
    columns +=
      /\p{Emoji_Presentation}|[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60]/u.test(
        segment,
      )
        ? 2
        : 1;
  }
  return columns;
}
