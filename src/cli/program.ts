import { CommanderError, Option as Flag, Command as Program } from "commander";
import { PgkitError } from "../lib/errors.ts";
import type { Command, Example } from "./command.ts";
import { commandOptions } from "./options/command.ts";
import { globalOptions } from "./options/global.ts";
import type { Option } from "./options/option.ts";
import { splitList } from "./settings.ts";

/** What the user typed: a command and its texts, or something to print, such as help. */
export type Parsed = { readonly type: "print"; readonly text: string } | Chosen;

export interface Chosen {
  readonly type: "run";
  readonly command: Command;
  /** The texts of each argument, by its name. */
  readonly positional: ReadonlyMap<string, readonly string[]>;
  /** The texts of the flags that were given. */
  readonly flags: ReadonlyMap<Option<unknown>, readonly string[]>;
}

/** Reads the command line. Fails with `usage`, naming the nearest command or flag there is. */
export function parseCommandLine(args: readonly string[], commands: readonly Command[], version: string): Parsed {
  let text = "";
  let chosen: Chosen | undefined;
  const program = new Program("pgkit")
    .exitOverride()
    .configureOutput({ writeOut: (written) => (text += written), writeErr: () => undefined });
  addCommands(program, commands, version, (found) => {
    chosen = found;
  });
  if (args.length === 0) return { type: "print", text: program.helpInformation() };
  try {
    program.parse(args, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode !== 0) throw usageError(error, args, commands);
  }
  return chosen ?? { type: "print", text };
}

function addCommands(
  program: Program,
  commands: readonly Command[],
  version: string,
  choose: (chosen: Chosen) => void,
): void {
  program
    .description("Keeps PostgreSQL databases recoverable and movable.")
    .version(version, "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .helpCommand("help [command]", "print the help of a command")
    .configureHelp({ showGlobalOptions: true });
  for (const option of Object.values(globalOptions)) program.addOption(flagOf(option));
  for (const command of commands) {
    const added = addSubcommand(program, command.name, commands).description(`${command.summary}.`);
    for (const { name, required, doc, choices } of command.arguments) {
      const argument = added.createArgument(required === true ? `<${name}>` : `[${name}]`, doc);
      added.addArgument(choices === undefined ? argument : argument.choices([...choices]));
    }
    for (const id of command.options) added.addOption(flagOf(commandOptions[id]));
    added.addHelpText("after", `\nExamples:\n${command.examples.map(exampleText).join("\n")}`);
    added.action(() => {
      choose({ type: "run", command, positional: positionalOf(command, added), flags: flagsOf(command, added) });
    });
  }
}

/** `backup logical` goes below `backup`, which is made by the first of its kind and described by what is below it. */
function addSubcommand(program: Program, name: string, commands: readonly Command[]): Program {
  const [group, rest] = name.split(" ");
  if (group === undefined || rest === undefined) return program.command(name);
  const found = program.commands.find((command) => command.name() === group);
  const below = commands.filter((command) => command.name.startsWith(`${group} `));
  const description = below.map((command) => `${command.name.slice(group.length + 1)}: ${command.summary}.`).join(" ");
  return (found ?? program.command(group).description(description)).command(rest);
}

function flagOf(option: Option<unknown>): Flag {
  const { type, env, doc } = option;
  const notes = [
    ...(type.choices === undefined ? [] : [`one of ${type.choices.join(", ")}`]),
    ...defaultNote(option),
    ...(env === undefined ? [] : [`env ${env}`]),
  ];
  const flag = new Flag(option.flag ?? "", notes.length === 0 ? doc : `${doc} (${notes.join("; ")})`);
  return type.shape === "list"
    ? flag.argParser((text: string, before: string[] = []) => [...before, ...splitList(text)])
    : flag;
}

function defaultNote(option: Option<unknown>): string[] {
  if (option.defaultDoc !== undefined) return [`default ${option.defaultDoc.replaceAll("`", "")}`];
  if (option.default === undefined || option.default === false || Array.isArray(option.default)) return [];
  return [`default ${String(option.default)}`];
}

function exampleText({ line, does }: Example): string {
  return `  ${line}\n      ${does}`;
}

function positionalOf(command: Command, program: Program): ReadonlyMap<string, readonly string[]> {
  return new Map(
    command.arguments.map(({ name }, index) => {
      const given: unknown = program.processedArgs[index];
      return [name, given === undefined ? [] : [given].flat().map(String)];
    }),
  );
}

function flagsOf(command: Command, program: Program): ReadonlyMap<Option<unknown>, readonly string[]> {
  const given = program.optsWithGlobals<Record<string, unknown>>();
  const rows = [...Object.values<Option<unknown>>(globalOptions), ...command.options.map((id) => commandOptions[id])];
  return new Map(
    rows.flatMap((row): [Option<unknown>, readonly string[]][] => {
      const value = given[new Flag(row.flag ?? "").attributeName()];
      return value === undefined ? [] : [[row, [value].flat().map(String)]];
    }),
  );
}

function usageError(error: CommanderError, args: readonly string[], commands: readonly Command[]): PgkitError {
  if (error.code === "commander.help") {
    const group = args.find((arg) => commands.some(({ name }) => name.startsWith(`${arg} `)));
    const below = commands.filter(({ name }) => name.startsWith(`${group} `)).map(({ name }) => `pgkit ${name}`);
    const hint = group === undefined ? "pgkit --help lists the commands" : `one of: ${below.join(", ")}`;
    return new PgkitError("usage", "the command is not complete", { hint });
  }
  const [first = "", suggestion] = error.message.split("\n");
  // What stands behind `=` in a flag that is not known may be a secret.
  const message = first.replace(/^error: /, "").replace(/'(--[^=']+)=[^']*'/, "'$1'");
  const meant = /Did you mean (?:one of )?(.*)\?\)?$/.exec(suggestion ?? "")?.[1];
  return new PgkitError("usage", message, {
    hint:
      meant === undefined
        ? "pgkit --help lists the commands, pgkit COMMAND --help their flags"
        : `did you mean ${meant}?`,
  });
}
