import type { Typed } from "./command.ts";
import type { Option } from "./options/option.ts";
import { postgresUrl } from "./options/values.ts";
import { withoutPassword } from "./postgres-url.ts";
import type { Chosen } from "./program.ts";
import { flagName } from "./settings.ts";

/** The command line as it was understood, without what is secret in it: other processes see the words of a command line. */
export function typedOf({ command, positional, flags }: Chosen): Typed {
  return {
    command: command.name,
    texts: [...positional.values()].flat(),
    flags: new Map(
      [...flags].flatMap(([row, texts]): [string, readonly string[]][] => {
        const words = wordsOf(row, texts);
        return words.length === 0 ? [] : [[flagName(row), words]];
      }),
    ),
  };
}

function wordsOf(row: Option<unknown>, texts: readonly string[]): string[] {
  const name = flagName(row);
  if (row.type.shape === "switch") return [name];
  if (row.secret !== true) return texts.map((text) => `${name}=${text}`);
  return row.type === postgresUrl ? texts.map((text) => `${name}=${withoutPassword(text).url}`) : [];
}
