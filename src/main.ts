import packageJson from "../package.json" with { type: "json" };
import type { Command, CommandArguments, ReadSecret } from "./cli/command.ts";
import { commands } from "./cli/commands.ts";
import { commandContext } from "./cli/context.ts";
import { failureStatus } from "./cli/exit-status.ts";
import { loadConfig } from "./cli/load-config.ts";
import { commandOptions } from "./cli/options/command.ts";
import { globalOptions } from "./cli/options/global.ts";
import { type Chosen, parseCommandLine } from "./cli/program.ts";
import { createRenderer, endQuietlyWhenClosed, type Renderer, type RenderOptions, type Streams } from "./cli/render.ts";
import { resolveSettings, type Settings } from "./cli/settings.ts";
import { typedOf } from "./cli/typed.ts";
import { isPgkitError, PgkitError } from "./lib/errors.ts";
import { secretVault } from "./lib/secret.ts";
import { type Clock, systemClock } from "./lib/time.ts";

type Environment = Readonly<Record<string, string | undefined>>;

/** The world around a run, for tests to replace. */
export interface Outside {
  readonly commands: readonly Command[];
  readonly streams: Streams;
  readonly clock: Clock;
  readonly cwd: string;
  /** In place of Kubernetes, for tests. */
  readonly readSecret?: ReadSecret | undefined;
  /** Calls `stop` at each signal that asks the run to end, and `crash` with what nobody caught; gives what undoes this. */
  listen(stop: (signal: string) => void, crash: (error: unknown) => void): () => void;
  /** Ends the process at once. */
  exit(status: number): void;
}

/**
 * Runs one command line and gives its exit status. The composition root: whatever depends on the process is read here
 * and passed on. Never fails: every error has become a message and a status.
 */
export async function main(argv: readonly string[], env: Environment, outside = realWorld()): Promise<number> {
  const { streams, clock } = outside;
  const vault = secretVault();
  const args = argv.slice(2);
  // Until the command line is understood, this is the best guess of how its user wants to be told about errors.
  const guessed = { json: args.includes("--json"), quiet: false, verbose: false, progress: "plain" } as const;
  const run: Run = {
    self: argv.slice(0, 2),
    args,
    env,
    outside,
    vault,
    renderer: await createRenderer({ streams, clock, vault, ...guessed }),
  };
  const stopping = new AbortController();
  const stopListening = outside.listen(
    (signal) => {
      if (stopping.signal.aborted) {
        run.renderer.finish();
        outside.exit(failureStatus(args, 130));
      }
      stopping.abort(new PgkitError("cancelled", `stopped by ${signal}`));
    },
    (error) => {
      run.renderer.error(error);
      outside.exit(failureStatus(args, 1));
    },
  );
  endQuietlyWhenClosed(streams);
  try {
    return await runCommandLine(run, stopping.signal);
  } catch (error) {
    const told = stopping.signal.aborted ? cancelled(stopping.signal, error) : error;
    run.renderer.error(told);
    return failureStatus(args, isPgkitError(told) ? told.exitStatus : 1);
  } finally {
    run.renderer.finish();
    stopListening();
  }
}

interface Run {
  readonly self: readonly string[];
  readonly args: readonly string[];
  readonly env: Environment;
  readonly outside: Outside;
  readonly vault: ReturnType<typeof secretVault>;
  renderer: Renderer;
}

async function runCommandLine(run: Run, signal: AbortSignal): Promise<number> {
  const { self, env, outside, vault } = run;
  const { version } = packageJson;
  const parsed = parseCommandLine(run.args, outside.commands, version);
  if (parsed.type === "print") {
    run.renderer.out.raw(parsed.text);
    return 0;
  }
  const { command } = parsed;
  const flags = await flagsOf(parsed, run);
  const { streams, clock, cwd } = outside;
  run.renderer = await createRenderer({ streams, clock, vault, ...presentation(flags) });
  const config = await loadConfig({
    flags: parsed.flags,
    env,
    cwd,
    vault,
    isNeeded: command.needsConfig !== false,
  });
  signal.throwIfAborted();
  const { report, out } = run.renderer;
  const context = commandContext({
    ...{ version, self, config, env, cwd, clock, signal, report, out, streams, vault },
    instance: flags.get(globalOptions.instance),
    places: placesOf(parsed),
    typed: typedOf(parsed),
    dryRun: flags.get(commandOptions.dryRun),
    yes: flags.get(commandOptions.yes),
    readSecret: outside.readSecret,
  });
  return command.run(context, argumentsOf(parsed, flags));
}

/** The flags, and the variables that stand for them; the rest of the environment is for the configuration. */
async function flagsOf({ flags }: Chosen, { env, outside }: Run): Promise<Settings> {
  const { json, quiet, verbose, progress, instance } = globalOptions;
  const options = [json, quiet, verbose, progress, instance, ...Object.values(commandOptions)];
  const wanted = new Map([...flags].filter(([option]) => options.some((each) => each === option)));
  return resolveSettings({ options, flags: wanted, env, file: undefined, cwd: outside.cwd, problems: [] });
}

/** The flags that say which configuration, instance and repository this run is about, as they were given. */
function placesOf({ flags }: Chosen): string[] {
  const { config, instance, repository } = globalOptions;
  return [config, instance, repository].flatMap((row) =>
    (flags.get(row) ?? []).flatMap((text) => [row.flag.split(" ")[0] ?? "", text]),
  );
}

function presentation(flags: Settings): Pick<RenderOptions, "json" | "quiet" | "verbose" | "progress"> {
  return {
    json: flags.get(globalOptions.json),
    quiet: flags.get(globalOptions.quiet),
    verbose: flags.get(globalOptions.verbose),
    progress: flags.get(globalOptions.progress),
  };
}

function argumentsOf({ positional }: Chosen, flags: Settings): CommandArguments {
  return {
    one: (name) => positional.get(name)?.[0],
    all: (name) => positional.get(name) ?? [],
    flags: valuesOf(flags),
  };
}

function valuesOf(flags: Settings): CommandArguments["flags"] {
  const values = Object.entries(commandOptions).map(([name, row]) => [name, flags.get(row)] as const);
  // Each value is that of its row's own type.
  return Object.fromEntries(values) as CommandArguments["flags"];
}

/** Whatever failed after the signal failed because of it; `--verbose` tells what it was. */
function cancelled(signal: AbortSignal, error: unknown): PgkitError {
  const reason = isPgkitError(signal.reason) ? signal.reason.message : "stopped";
  return new PgkitError("cancelled", reason, error === signal.reason ? {} : { cause: error });
}

function realWorld(): Outside {
  return {
    commands,
    streams: process,
    clock: systemClock,
    cwd: process.cwd(),
    listen: (stop, crash) => {
      const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
      for (const signal of signals) process.on(signal, stop);
      process.on("uncaughtException", crash);
      return () => {
        for (const signal of signals) process.off(signal, stop);
        process.off("uncaughtException", crash);
      };
    },
    exit: (status) => process.exit(status),
  };
}
