import { setTimeout as delay } from "node:timers/promises";
import { expect } from "vitest";
import type { Command } from "../../src/cli/command.ts";
import type { RepositoryConfig } from "../../src/cli/config.ts";
import type { Clock } from "../../src/lib/time.ts";
import { openOrCreateRepository, openRepository, type RepositorySettings } from "../../src/repo/repository.ts";
import { type Fault, type FaultyStore, faultyStore } from "../../src/store/faulty.ts";
import { retryStore } from "../../src/store/retry.ts";
import type { ObjectStore } from "../../src/store/store.ts";
import { type Ran, type RunOptions, run } from "../cli/run.ts";

/** The command under the name `try`, over stores of the test in place of those that the configuration names. */
export function onStores(
  command: Command,
  storeOf: (repository: RepositoryConfig) => ObjectStore,
  identity?: string,
): Command {
  const settings = ({ encryption }: RepositoryConfig): RepositorySettings => ({
    compression: { level: 1, threads: 1 },
    recipients: encryption.recipients,
    identities: async () => (identity === undefined ? [] : [identity]),
    volumeBytes: 1024 ** 3,
  });
  return {
    ...command,
    name: "try",
    run: (context, args) => {
      const { signal, clock } = context;
      const openStore = async (repository: RepositoryConfig) => storeOf(repository);
      const replaced = {
        ...context,
        openStore,
        openRepository: async (repository: RepositoryConfig) =>
          await openRepository(storeOf(repository), settings(repository), { signal }),
        openOrCreateRepository: async (repository: RepositoryConfig) =>
          await openOrCreateRepository(storeOf(repository), settings(repository), clock, { signal }),
      };
      return command.run(replaced, args);
    },
  };
}

/** The machine's clock, which a test can set ahead. */
export function movableClock(): Clock & { ahead(ms: number): void } {
  let offsetMs = 0;
  return {
    now: () => new Date(Date.now() + offsetMs),
    monotonicMs: () => performance.now() + offsetMs,
    random: () => Math.random(),
    delay: async (ms, signal) => await delay(ms, undefined, signal === undefined ? {} : { signal }),
    ahead: (ms) => {
      offsetMs += ms;
    },
  };
}

export const kindsOfFault = ["fail", "lose-reply", "cut", "cut-late", "hang", "gone"] as const;
export type KindOfFault = (typeof kindsOfFault)[number];

/** What goes wrong at one call; `gone`: the store fails from then on. */
export function faultAt(kind: KindOfFault, call: number): Fault {
  if (kind === "gone") return { call, times: 1e9, does: "fail" };
  if (kind === "cut") return { call, does: { cutAfter: 10 } };
  // In the middle of an archive, and right at the end of anything smaller.
  if (kind === "cut-late") return { call, does: { cutAfter: 30_000 } };
  return { call, does: kind };
}

export interface Swept {
  ran: Ran;
  /** Calls of the store that were made. */
  calls: number;
}

/**
 * Runs a command over stores of which `faulty` goes wrong as `fault` says; where that hangs, the run is told to stop as
 * soon as it has come there, and must then end soon.
 */
export async function runWithFault(
  command: Command,
  args: readonly string[],
  options: RunOptions,
  { store, fault, retries, others = () => undefined, identity }: FaultyRun,
): Promise<Swept> {
  const faulty = faultyStore(store, fault === undefined ? [] : [fault]);
  const over = retries ? retryStore(faulty, { baseMs: 1, maxMs: 5, attempts: 3 }) : faulty;
  const running = new AbortController();
  const ran = await run(["try", ...args, "--json"], {
    ...options,
    commands: [onStores(command, (repository) => others(repository) ?? over, identity)],
    onStart: ({ signal }) => {
      if (fault?.does === "hang") stopWhenReached(faulty, fault.call, running.signal, signal);
    },
  });
  running.abort();
  return { ran, calls: faulty.calls() };
}

export interface FaultyRun {
  store: ObjectStore;
  fault?: Fault | undefined;
  retries: boolean;
  /** Stores of other repositories of the run. */
  others?: (repository: RepositoryConfig) => ObjectStore | undefined;
  identity?: string | undefined;
}

function stopWhenReached(store: FaultyStore, call: number, over: AbortSignal, stop: (signal: string) => void): void {
  const timer = setInterval(() => {
    if (over.aborted) clearInterval(timer);
    if (over.aborted || store.calls() < call) return;
    clearInterval(timer);
    stop("SIGINT");
  }, 2);
}

/** Runs a command over a store that works, which must succeed. */
export async function runClean(
  command: Command,
  args: readonly string[],
  options: RunOptions,
  store: ObjectStore,
  identity?: string,
): Promise<Record<string, unknown>> {
  const { ran } = await runWithFault(command, args, options, { store, retries: false, identity });
  expect(`${command.name} ${args.join(" ")}: ${ran.status} ${ran.stderr}`).toMatch(/: 0 /);
  return JSON.parse(ran.stdout);
}
