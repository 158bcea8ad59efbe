import type { LimitFunction } from "p-limit";
import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import type { Connection } from "../postgres/connection.ts";
import type { Programs } from "../postgres/programs.ts";
import type { LeaseOptions } from "../repo/lease.ts";
import type { Repository } from "../repo/repository.ts";
import type { Lineage } from "../repo/wal.ts";
import type { Destination } from "./stream-destination.ts";
import type { StreamFolder } from "./stream-folder.ts";
import type { LagSamples, Level, Thresholds } from "./stream-lag.ts";
import type { Losses } from "./stream-loss.ts";
import type { StreamState } from "./stream-status.ts";

export interface StreamRequest extends Thresholds {
  instance: string;
  connection: Connection;
  repositories: readonly { where: string; open: () => Promise<Repository> }[];
  slot: string;
  /** Of this instance alone; made where missing. */
  streamFolder: string;
  flushEveryMs: number;
  onFull: "alert" | "gap";
  lease: Pick<LeaseOptions, "holder" | "ttlMs" | "withoutConditions">;
  programsFor: (major: number) => Promise<Programs>;
  /** Takes a base backup, after WAL was lost with `onFull: gap`; gives its id. */
  takeBaseBackup?: ((signal: AbortSignal) => Promise<string>) | undefined;
  clock: Clock;
  report: Report;
}

/** One run of the streamer. */
export interface Streamer {
  readonly request: StreamRequest;
  /** Aborted when the run shall end: nothing more is received, what was received is stored. */
  readonly stop: AbortSignal;
  /** Those that are open by now. */
  readonly repositories: Repository[];
  /** The server that is followed, from when it was first reached. */
  stream: Stream | undefined;
  state: StreamState;
  since: Date;
  /** What was said last of each place, so that it is said once. */
  readonly troubles: Map<string, { message: string; since: Date }>;
  timeline: number | undefined;
  serverLsn: bigint | undefined;
  retainedBytes: number | undefined;
  readonly lag: LagSamples;
  lagSeconds: number | undefined;
  level: Level;
  waitingSegments: number;
  /** The status is written by one at a time. */
  readonly telling: LimitFunction;
}

/** What belongs to one server, by its system identifier. */
export interface Stream {
  readonly lineage: Lineage;
  readonly folder: StreamFolder;
  readonly destinations: readonly Destination[];
  readonly losses: Losses;
}
