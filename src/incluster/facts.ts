import type { Kube } from "../kube/kube.ts";
import type { PgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import type { Repository } from "../repo/repository.ts";
import type { SagaStep } from "../saga/saga.ts";
import type { ServerVolume } from "./server-volume.ts";

/** What a restore of an instance in its cluster is; fixed when it begins, and journaled. Plain values, no secret. */
export interface VolumeRestoreFacts {
  /** `20261129T180000Z-3f9a`. */
  readonly id: string;
  readonly instance: string;
  readonly namespace: string;
  readonly statefulSet: string;
  /** What was typed: the same command goes on with it. */
  readonly asked: string;
  /** The target in words. */
  readonly target: string;
  /** Words of `pgkit restore --data-dir` that say what is restored, with every choice made. */
  readonly words: readonly string[];
  readonly backup: string;
  readonly systemId: string;
  readonly databases: readonly string[];
  readonly keepOld: "rename" | "snapshot";
  readonly overrideGitops: boolean;
  readonly volume: ServerVolume;
  /** With `--to-new-pvc`: the claim of the server, which `volume` then does not name. */
  readonly oldClaim?: string | undefined;
}

/** What recovery came to, as the Job of the restore says. */
export interface Reached {
  readonly time?: string | undefined;
  readonly lsn: string;
  readonly timeline: number;
}

/** What the server says of itself. */
export interface ServerAnswer {
  readonly systemId: string;
  readonly timeline: number;
  readonly inRecovery: boolean;
  readonly databases: readonly string[];
}

/** Reads what another pgkit writes with `--progress events`; see `src/cli/events.ts`. */
export interface LogReader {
  take(line: string, source: string): void;
  end(why: string): void;
  result(): { readonly json: unknown } | undefined;
  error(): PgkitError | undefined;
  lastWords(): string | undefined;
}

/** How long each thing may take. */
export interface Patience {
  /** A Pod's end, and its becoming ready. */
  readonly podMs: number;
  /** A Job's Pod to begin. */
  readonly startMs: number;
}

/** What every step may use. Steps keep nothing between calls: what they must remember is in their plan and result. */
export interface RestoreContext {
  readonly restore: VolumeRestoreFacts;
  readonly kube: Kube;
  readonly repository: Repository;
  /** Who does it, for the Jobs' own records. */
  readonly actor: string;
  /** Asks the server from here; `undefined`: it cannot be reached from here. */
  readonly ask: (signal: AbortSignal) => Promise<ServerAnswer | undefined>;
  readonly newReader: () => LogReader;
  readonly patience: Patience;
  readonly clock: Clock;
  readonly report: Report;
  readonly signal: AbortSignal;
  /** What another step planned before it ran; `undefined` where it has not. */
  planOf<P>(step: Pick<Step<P, never>, "name" | "prepare">): P | undefined;
  /** What another step came to; `undefined` where it is not done. */
  resultOf<R>(step: Pick<Step<never, R>, "name" | "run">): R | undefined;
  /** Whether a step of this name has begun. */
  hasBegun(step: string): boolean;
}

export type Step<Plan = unknown, Result = unknown> = SagaStep<RestoreContext, Plan, Result>;
