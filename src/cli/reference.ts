import { errorCodes } from "../lib/errors.ts";
import type { Command } from "./command.ts";
import { commandOptions } from "./options/command.ts";
import { globalOptions } from "./options/global.ts";
import type { Option } from "./options/option.ts";
import { optionTable } from "./options/table.ts";

/** `docs/reference.md`, out of the option table, the commands and the error codes. */
export function referenceText(commands: readonly Command[]): string {
  return [
    "# Reference",
    "Generated from the option table of the source by `npm run docs`; do not edit.",
    "## Commands",
    "Every command takes these flags:",
    flagTable(Object.values(globalOptions)),
    ...commands.map(commandText),
    "## Configuration",
    precedence,
    ...optionTable.filter(({ rows }) => rows.some(isSetting)).map(({ title, rows }) => settingsText(title, rows)),
    "## Exit status",
    exitTable(),
    "",
  ]
    .join("\n\n")
    .trimEnd()
    .concat("\n");
}

const precedence = `Flags come before environment variables, these before the file, and the file before the defaults. The file is the one
named by \`--config\` or \`PGKIT_CONFIG\`, else \`./pgkit.yaml\`, else \`/etc/pgkit/pgkit.yaml\`. Relative paths in it are
relative to its folder. An unknown key or a misspelled \`PGKIT_*\` variable is an error. Lists are lists in the file, and
separated by commas in a variable. In a key, \`*\` stands for a name that you choose, and \`[]\` for each item of a list.
A repository of \`repositories:\` has the \`storage:\` and \`encryption:\` of the top of the file where it has none of its own.
Where the file names no instance, the \`PG*\` variables describe the one named \`default\`.`;

function commandText({ name, summary, arguments: args, options, examples }: Command): string {
  const synopsis = ["pgkit", name, ...args.map((arg) => (arg.required === true ? arg.name : `[${arg.name}]`))].join(
    " ",
  );
  const rows = options.map((id) => commandOptions[id]);
  return [
    `### pgkit ${name}`,
    `\`${synopsis}\`: ${summary}.`,
    ...(args.length === 0
      ? []
      : [
          markdownTable(
            ["argument", "meaning"],
            args.map(({ name: arg, doc, choices }) => [
              code(arg),
              choices === undefined ? doc : `${doc}: ${choices.join(", ")}`,
            ]),
          ),
        ]),
    ...(rows.length === 0 ? [] : [flagTable(rows)]),
    ["```sh", ...examples.map(({ line, does }) => `${line}    # ${does}`), "```"].join("\n"),
  ].join("\n\n");
}

function flagTable(rows: readonly Option<unknown>[]): string {
  return markdownTable(
    ["flag", "variable", "meaning", "default"],
    rows.map((row) => [code(row.flag), code(row.env), meaning(row), defaultText(row)]),
  );
}

/** A row that the file or a variable can set, not only a flag. */
function isSetting(row: Option<unknown>): boolean {
  return row.key !== undefined || row.env !== undefined;
}

function settingsText(title: string, rows: readonly Option<unknown>[]): string {
  const settings = rows.filter(isSetting);
  const table = markdownTable(
    ["key", "variable", "flag", "meaning", "must be", "default"],
    settings.map((row) => [
      code(row.key),
      code(row.env),
      code(row.flag),
      meaning(row),
      escaped(row.type.allowed),
      defaultText(row),
    ]),
  );
  return `### ${title}\n\n${table}`;
}

function meaning(row: Option<unknown>): string {
  return escaped(row.secret === true ? `${row.doc} (secret)` : row.doc);
}

function defaultText(row: Option<unknown>): string {
  if (row.defaultDoc !== undefined) return row.defaultDoc;
  if (row.default === undefined) return "";
  if (Array.isArray(row.default)) return row.default.length === 0 ? "none" : code(row.default.join(","));
  return row.default === false ? "" : code(String(row.default));
}

function exitTable(): string {
  const statuses = new Map<number, string[]>([[0, ["done"]]]);
  for (const [name, { exit, doc }] of Object.entries(errorCodes)) {
    statuses.set(exit, [...(statuses.get(exit) ?? []), `${code(name)}: ${doc}`]);
  }
  const sorted = [...statuses].sort(([a], [b]) => a - b);
  return markdownTable(
    ["status", "what happened, and its `code` under `--json`"],
    sorted.map(([status, docs]) => [String(status), docs.map(escaped).join("<br>")]),
  );
}

function markdownTable(titles: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  return [line(titles), line(titles.map(() => "---")), ...rows.map(line)].join("\n");
}

function code(text: string | undefined): string {
  return text === undefined ? "" : `\`${text}\``;
}

function escaped(text: string): string {
  return text.replaceAll("|", "\\|");
}
