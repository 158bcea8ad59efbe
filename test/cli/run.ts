import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { PassThrough } from "node:stream";
import type { Command, ReadSecret } from "../../src/cli/command.ts";
import { commands } from "../../src/cli/commands.ts";
import { type Clock, systemClock } from "../../src/lib/time.ts";
import { main } from "../../src/main.ts";

export interface RunOptions {
  env?: Record<string, string>;
  /** Files in the working folder, by their relative paths. */
  files?: Record<string, string>;
  /** Commands besides the real ones. */
  commands?: readonly Command[];
  clock?: Clock;
  isTTY?: boolean;
  /** What is typed when a question is on the screen. */
  keys?: string;
  /** `kube`: as in a real run, by the Kubernetes API. */
  readSecret?: ReadSecret | "kube";
  /** Told how to send a signal, and the working folder, before the command line runs. */
  onStart?: (outside: { signal(name: string): void; folder: string }) => void;
}

export interface Ran {
  status: number;
  stdout: string;
  stderr: string;
  /** Statuses with which the process would have been ended at once. */
  exits: number[];
  folder: string;
}

/** Runs a command line in this process, in a folder of its own that is removed after. */
export async function run(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const folder = await mkdtemp(join(tmpdir(), "pgkit-cli-"));
  try {
    for (const [path, text] of Object.entries(options.files ?? {})) {
      await mkdir(dirname(join(folder, path)), { recursive: true });
      await writeFile(join(folder, path), text, { mode: 0o600 });
    }
    return await runIn(folder, args, options);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function runIn(folder: string, args: readonly string[], options: RunOptions): Promise<Ran> {
  const streams = { stdin: terminal(options), stdout: terminal(options), stderr: terminal(options) };
  const stdout = collected(streams.stdout);
  const stderr = collected(streams.stderr);
  if (options.keys !== undefined)
    streams.stderr.once("data", () => setImmediate(() => streams.stdin.write(options.keys)));
  const exits: number[] = [];
  const status = await main(
    ["node", "pgkit", ...args],
    { HOME: folder, ...options.env },
    {
      commands: [...commands, ...(options.commands ?? [])],
      streams,
      clock: options.clock ?? systemClock,
      cwd: folder,
      readSecret:
        options.readSecret === "kube"
          ? undefined
          : (options.readSecret ?? (async () => Promise.reject(new Error("no Secret was expected to be read")))),
      listen: (stop) => {
        options.onStart?.({ signal: stop, folder });
        return () => undefined;
      },
      exit: (code) => exits.push(code),
    },
  );
  return { status, stdout: stdout(), stderr: stderr(), exits, folder };
}

function terminal({ isTTY = false }: RunOptions): PassThrough & { isTTY: boolean } {
  return Object.assign(new PassThrough(), { isTTY, setRawMode: () => undefined, columns: 100, rows: 30 });
}

function collected(stream: PassThrough): () => string {
  let text = "";
  stream.on("data", (chunk) => (text += chunk));
  return () => text;
}

/** A command that does what a test wants. */
export function testCommand(runIt: Command["run"], rest: Partial<Command> = {}): Command {
  const example = { line: "pgkit try", does: "tries" };
  return { name: "try", summary: "Try", arguments: [], options: [], examples: [example], run: runIt, ...rest };
}

/** A command that prints the configuration. */
export const printConfig = testCommand(
  async ({ config, out }) => {
    out.result({ json: config, text: "" });
    return 0;
  },
  { name: "print-config" },
);
