import type { Command } from "./command.ts";
import { commandOptions } from "./options/command.ts";
import { globalOptions } from "./options/global.ts";
import type { Option } from "./options/option.ts";
import { path } from "./options/values.ts";
import { flagName } from "./settings.ts";

/** A script that teaches a shell every command, flag and fixed word there is. */
export function completionScript(shell: "bash" | "zsh" | "fish", commands: readonly Command[]): string {
  if (shell === "fish") return fishScript(commands);
  const bash = bashScript(commands);
  // zsh runs bash's completion functions itself, so that there is one script to keep right.
  return shell === "bash" ? bash : `#compdef pgkit\nautoload -Uz bashcompinit && bashcompinit\n${bash}`;
}

function bashScript(commands: readonly Command[]): string {
  const cases = commandPaths(commands).map(({ path, words }) => `    "${path}") words="${words.join(" ")}" ;;`);
  const values = rowsOf(commands)
    .filter((row) => takesValue(row))
    .map((row) => `    ${flagName(row)}) ${valueCompletion(row)} ;;`);
  return `# completion of pgkit for bash; made by: pgkit completion bash
_pgkit() {
  local cur="\${COMP_WORDS[COMP_CWORD]}" prev="\${COMP_WORDS[COMP_CWORD-1]}" path="" word words="" i
  COMPREPLY=()
  case "$prev" in
${values.join("\n")}
  esac
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="\${COMP_WORDS[i]}"
    case "$word" in
      ${valueFlags(commands).join("|")}) ((i++)) ;;
      -*) ;;
      *) case "\${path:+$path }$word" in
           ${commandPaths(commands)
             .filter(({ path }) => path !== "")
             .map(({ path }) => `"${path}"`)
             .join("|")}) path="\${path:+$path }$word" ;;
         esac ;;
    esac
  done
  case "$path" in
${cases.join("\n")}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _pgkit pgkit
`;
}

/** What may follow each command and group: its subcommands, fixed words and flags. */
function commandPaths(commands: readonly Command[]): { path: string; words: string[] }[] {
  const global = Object.values<Option<unknown>>(globalOptions).map(flagName);
  const groups = [...new Set(commands.flatMap(({ name }) => (name.includes(" ") ? [name.split(" ")[0] ?? ""] : [])))];
  const below = (group: string) =>
    commands.flatMap(({ name }) => (name.startsWith(`${group} `) ? [name.slice(group.length + 1)] : []));
  const top = [...new Set(commands.map(({ name }) => name.split(" ")[0] ?? ""))];
  return [
    { path: "", words: [...top, "help", ...global, "--help", "--version"] },
    ...groups.map((group) => ({ path: group, words: [...below(group), "--help"] })),
    ...commands.map(({ name, options, arguments: args }) => ({
      path: name,
      words: [
        ...args.flatMap(({ choices }) => choices ?? []),
        ...options.map((id) => flagName(commandOptions[id])),
        ...global,
        "--help",
      ],
    })),
  ];
}

function rowsOf(commands: readonly Command[]): Option<unknown>[] {
  const ids = new Set(commands.flatMap(({ options }) => options));
  return [...Object.values(globalOptions), ...[...ids].map((id) => commandOptions[id])];
}

function takesValue(row: Option<unknown>): boolean {
  return row.type.shape !== "switch";
}

function valueFlags(commands: readonly Command[]): string[] {
  return rowsOf(commands).filter(takesValue).map(flagName);
}

function valueCompletion(row: Option<unknown>): string {
  if (row.type.choices !== undefined)
    return `COMPREPLY=($(compgen -W "${row.type.choices.join(" ")}" -- "$cur")); return`;
  return row.type === path ? `COMPREPLY=($(compgen -f -- "$cur")); return` : "return";
}

function fishScript(commands: readonly Command[]): string {
  const lines = ["# completion of pgkit for fish; made by: pgkit completion fish", "complete -c pgkit -f"];
  const seen = (name: string) =>
    name
      .split(" ")
      .map((word) => `__fish_seen_subcommand_from ${word}`)
      .join("; and ");
  const tops = new Set<string>();
  for (const { name, summary, options, arguments: args } of commands) {
    const [top = "", sub] = name.split(" ");
    if (!tops.has(top))
      lines.push(`complete -c pgkit -n __fish_use_subcommand -a ${top} -d ${quoted(sub === undefined ? summary : "")}`);
    tops.add(top);
    if (sub !== undefined) lines.push(`complete -c pgkit -n '${seen(top)}' -a ${sub} -d ${quoted(summary)}`);
    for (const id of options) lines.push(fishFlag(commandOptions[id], `-n '${seen(name)}' `));
    for (const { choices } of args) {
      if (choices !== undefined) lines.push(`complete -c pgkit -n '${seen(name)}' -a '${choices.join(" ")}'`);
    }
  }
  lines.push(...Object.values<Option<unknown>>(globalOptions).map((row) => fishFlag(row, "")));
  return `${lines.join("\n")}\n`;
}

function fishFlag(row: Option<unknown>, when: string): string {
  const short = /^-(\w),/.exec(row.flag ?? "")?.[1];
  const value = takesValue(row)
    ? row.type.choices === undefined
      ? row.type === path
        ? " -r -F"
        : " -x"
      : ` -x -a '${row.type.choices.join(" ")}'`
    : "";
  return `complete -c pgkit ${when}${short === undefined ? "" : `-s ${short} `}-l ${flagName(row).slice(2)}${value} -d ${quoted(row.doc)}`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
