import { PgkitError } from "../lib/errors.ts";
import type { Streams } from "./render.ts";
import { harmless } from "./text.ts";

/** Asks on a terminal before something is destroyed. Without a terminal and without `--yes` it is refused with `usage`. */
export async function askFirst(
  does: string,
  input: { yes: boolean; dryRun: boolean; streams: Streams; signal: AbortSignal },
): Promise<void> {
  if (input.yes || input.dryRun) return;
  const { stdin, stderr } = input.streams;
  if (stdin.isTTY !== true || stderr.isTTY !== true) {
    throw new PgkitError("usage", `this ${does}, and there is no terminal to ask`, {
      hint: "give --yes to do it, or --dry-run to see what would be done",
    });
  }
  const { confirm } = await import("@clack/prompts");
  const answer = await confirm({
    message: `This ${harmless(does)}. Go on?`,
    initialValue: false,
    input: stdin,
    output: stderr,
    signal: input.signal,
  });
  if (answer !== true) throw new PgkitError("cancelled", "nothing was done: the answer was no");
}
