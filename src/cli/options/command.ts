import { option, type ValuesOf } from "./option.ts";
import * as value from "./values.ts";

/** Flags of single commands; a command lists the names of those that it takes. */
export const commandOptions = {
  dryRun: option(value.yesOrNo, {
    flag: "-n, --dry-run",
    default: false,
    doc: "print what would be done and change nothing",
  }),
  yes: option(value.yesOrNo, {
    flag: "-y, --yes",
    default: false,
    doc: "do not ask before something is destroyed",
  }),
};

export type CommandFlags = ValuesOf<typeof commandOptions>;
