import { PgkitError } from "../../lib/errors.ts";
import type { Command } from "../command.ts";

const shells = ["bash", "zsh", "fish"] as const;

export const completionCommand: Command = {
  name: "completion",
  summary: "Print a script that completes pgkit's commands and flags in a shell",
  arguments: [{ name: "SHELL", required: true, choices: shells, doc: "the shell" }],
  options: [],
  needsConfig: false,
  examples: [
    { line: "source <(pgkit completion bash)", does: "in this shell; put it into ~/.bashrc for all" },
    { line: "pgkit completion zsh > ~/.zfunc/_pgkit", does: "where ~/.zfunc is in fpath before compinit" },
    { line: "pgkit completion fish > ~/.config/fish/completions/pgkit.fish", does: "for every fish" },
  ],
  run: async ({ out }, args) => {
    const [{ completionScript }, { commands }] = await Promise.all([
      import("../completion-script.ts"),
      import("../commands.ts"),
    ]);
    const shell = shells.find((each) => each === args.one("SHELL"));
    if (shell === undefined) throw new PgkitError("usage", `the shell must be one of ${shells.join(", ")}`);
    out.raw(completionScript(shell, commands));
    return 0;
  },
};
