import type { Report } from "../lib/report.ts";
import type { Clock } from "../lib/time.ts";
import type { Connection } from "../postgres/connection.ts";
import type { Programs } from "../postgres/programs.ts";
import type { Session } from "../postgres/session.ts";
import type { Repository } from "../repo/repository.ts";
import type { SagaStep } from "../saga/saga.ts";
import type { EndpointAddress, Switcher } from "../switch/switcher.ts";

export type Side = "source" | "target";

/** One of the two servers of a move. */
export interface MoveServer {
  /** The name of the configuration. */
  readonly instance: string;
  /** pgkit's own way there, as the instance's configured user. */
  readonly connection: Connection;
  /** How the other server reaches this one, for its subscription: `instances.X.peer`, else as pgkit does. */
  readonly peer: Connection;
  /** How applications reach it: `instances.X.endpoint`, else as pgkit does. */
  readonly endpoint: { readonly host: string; readonly port: number };
}

/** What a move is; fixed when it begins, and journaled as its fingerprint. Plain values, no secret. */
export interface MoveFacts {
  /** `20261129T180000Z-3f9a`. */
  readonly id: string;
  readonly application: string | undefined;
  /** The same name on both sides. */
  readonly database: string;
  readonly mode: "online" | "offline";
  readonly source: { readonly instance: string; readonly systemId: string; readonly major: number };
  readonly target: { readonly instance: string; readonly systemId: string; readonly major: number };
  readonly options: MoveOptions;
}

export interface MoveOptions {
  /** The longest that writes may be blocked until the block is lifted and the move stops; offline, `undefined` is no limit. */
  readonly maxBlockMs: number | undefined;
  /** Parallel tables, indexes, comparisons. */
  readonly jobs: number;
  /** False gives up the way back after the switch, where the servers cannot have it. */
  readonly reverseFeed: boolean;
  /** Older than that, a verified backup does not count and one is taken. */
  readonly backupMaxAgeMs: number;
  /** How long after the switch the way back is held to be needed. */
  readonly rollbackWindowMs: number;
  /** A program of the command line that points the application at its database. */
  readonly switchCommand?: readonly string[] | undefined;
  readonly gitopsOut?: string | undefined;
  readonly overrideGitops?: boolean | undefined;
  /** How long what reads a switched Secret may take to be ready; `undefined`: as the configuration says. */
  readonly rolloutMs?: number | undefined;
  /** True: where it does not become ready the move goes back by itself. */
  readonly autoRollback?: boolean | undefined;
}

/** What every step may use. Steps keep nothing between calls: what they must remember is in their plan and result. */
export interface MoveContext {
  readonly move: MoveFacts;
  readonly source: MoveServer;
  readonly target: MoveServer;
  readonly switchers: readonly Switcher[];
  /** Runs `use` in a session of this side: of the moved database, or of another one (`postgres` for what is shared). */
  session<T>(side: Side, use: (session: Session) => Promise<T>, database?: string): Promise<T>;
  /** The programs for this side: of the target's major where left out, as a dump is loaded by the newer ones. */
  programs(side?: Side): Promise<Programs>;
  /** What another step planned before it ran; `undefined` where it has not. */
  planOf<P>(step: Pick<Step<P, never>, "name" | "prepare">): P | undefined;
  /** What another step came to; `undefined` where it is not done. */
  resultOf<R>(step: Pick<Step<never, R>, "name" | "run">): R | undefined;
  /** Where backups, journal and proof of this move are. */
  readonly repository: Repository;
  /** Which pgkit makes the backups of this move; `unknown` in their manifests where left out. */
  readonly pgkitVersion?: string | undefined;
  readonly clock: Clock;
  readonly report: Report;
  readonly signal: AbortSignal;
}

/** Where the switchers pointed when the move began; journaled by the step `switch`. */
export type SwitchedFrom = readonly { readonly where: string; readonly from: EndpointAddress }[];

/** A step of a move. */
export interface Step<Plan = unknown, Result = unknown> extends SagaStep<MoveContext, Plan, Result> {
  /** Of `online` and `offline`, the one that it belongs to; both where left out. */
  readonly mode?: "online" | "offline";
}

/** Something that the plan must say before anything is changed. */
export interface Risk {
  /** A refusal ends the move before it begins. */
  readonly level: "refusal" | "warning";
  readonly message: string;
  readonly hint: string;
}
