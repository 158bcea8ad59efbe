import { PgkitError } from "../lib/errors.ts";
import type { Lsn } from "../lib/lsn.ts";
import type { BaseFacts, Manifest } from "../repo/manifest.ts";
import type { LineageFacts } from "../repo/wal.ts";
import type { WalInventory } from "../repo/wal-inventory.ts";
import type { RecoveryAction, RecoveryTarget, TimelineChoice } from "./recovery-target.ts";

/** A base backup: a manifest that has its facts. */
export type BaseManifest = Manifest & { base: BaseFacts };

/** The last commit or abort on a timeline's path before `endLsn`; the moment is in microseconds since 1970. */
export interface StoredEnd {
  systemId: string;
  timeline: number;
  /** Where WAL without a gap ends there: the end of a run of segments, or where the next timeline left it. */
  endLsn: Lsn;
  /** `undefined`: there is no transaction between the run's start and its end. */
  last: { timeUs: bigint; lsn: Lsn } | undefined;
}

/** All that a plan is made from; `readRecoveryInventory` reads it. */
export interface RecoveryInventory {
  instance: string;
  /** Base backups of the instance, oldest first. */
  backups: readonly BaseManifest[];
  wal: readonly WalInventory[];
  ends: readonly StoredEnd[];
}

export interface RecoveryRequest {
  target: RecoveryTarget;
  timeline: TimelineChoice;
  action: RecoveryAction;
  /** The base backup to start from; the newest that serves when left out. */
  backup?: string | undefined;
  /** Of several servers that the instance has had. */
  systemId?: string | undefined;
}

export interface RecoveryPlan {
  instance: string;
  backup: BaseManifest;
  /** What the backup is put together from: the full one first, `backup` itself last. */
  chain: BaseManifest[];
  systemId: string;
  /** `undefined`: no WAL of this server is stored, the backup brings its own. */
  lineage: LineageFacts | undefined;
  target: RecoveryTarget;
  action: RecoveryAction;
  /** The timeline on which the target is. */
  timeline: number;
  /** What recovery_target_timeline must be: always a certain one, since another may come to the repository meanwhile. */
  targetTimeline: string;
  /** The WAL that may be read, leg by leg: whole segments, `endLsn` exclusive. Recovery to a time or name ends within. */
  wal: { timeline: number; startLsn: Lsn; endLsn: Lsn }[];
  walSegments: number;
  walStoredBytes: number;
  /** Objects to fetch for the chain, their stored bytes, and the bytes of the data directory that comes of it. */
  objects: number;
  storedBytes: number;
  restoredBytes: number;
  /** The latest that could be reached on this timeline; `time` is that of the last transaction there, RFC 3339 UTC. */
  latest: { time?: string | undefined; lsn: Lsn };
  /** What whoever restores should know of the choices made here. */
  notes: string[];
}

/**
 * What to restore and what to recover, to reach the target; pure. Fails before anything is read from the repository's
 * files with `no-backup-for-target`, `wal-gap`, `timeline-unreachable` or `target-not-archived`, and with `usage` when the
 * request leaves open which of several histories is meant.
 */
export function planRecovery(_inventory: RecoveryInventory, _request: RecoveryRequest): RecoveryPlan {
  throw new PgkitError("bug", "the plan of a recovery is not made yet");
}
