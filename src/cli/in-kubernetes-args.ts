import { PgkitError } from "../lib/errors.ts";
import type { CommandContext, Typed } from "./command.ts";

/** Flags that are about this machine, or that the Job is given in another way. */
const here = new Set([
  ...["--config", "--instance", "--repository", "--json", "--quiet", "--progress"],
  ...["--in-kubernetes", "--detach", "--scratch-size", "--yes"],
]);

export interface ForJob {
  /** Whose instance the Job works for; `undefined`: it says so by its other words. */
  readonly instance: string | undefined;
  /** True: nobody reads its events; its log is for people. */
  readonly detach: boolean;
  /** Words in the place of a flag's own, by its name. */
  readonly instead?: ReadonlyMap<string, readonly string[]>;
}

/** The command line that was typed, as it is to be run in the cluster: without what means something on this machine alone. */
export function argsForJob(
  { typed, config }: CommandContext,
  { instance, detach, instead = new Map() }: ForJob,
): string[] {
  const own = [...typed.flags]
    .filter(([name]) => !here.has(name))
    .flatMap(([name, words]) => instead.get(name) ?? words);
  const texts = typed.texts.length === 0 ? [] : ["--", ...typed.texts];
  return [
    ...typed.command.split(" "),
    ...(instance === undefined ? [] : [`--instance=${instance}`]),
    ...repositoryOf(typed, config.repositories),
    ...own,
    ...(detach ? [] : ["--progress=events"]),
    ...(instead.get("--yes") ?? []),
    ...texts,
  ];
}

/** A path is that of this machine, where no Job is. */
function repositoryOf({ flags }: Typed, configured: CommandContext["config"]["repositories"]): readonly string[] {
  const words = flags.get("--repository") ?? [];
  for (const word of words) {
    const text = word.slice(word.indexOf("=") + 1);
    const isPath = !/^(s3|azure):/i.test(text) && !configured.some(({ name }) => name === text);
    if (!isPath) continue;
    throw new PgkitError("usage", `--repository ${text} is a folder of this machine, and the Job runs elsewhere`, {
      hint: "name one of repositories: of the configuration, or leave it out",
    });
  }
  return words;
}
