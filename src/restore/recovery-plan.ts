import { PgkitError } from "../lib/errors.ts";
import { formatLsn, type Lsn, parseLsn, segmentAt } from "../lib/lsn.ts";
import type { BaseFacts, Manifest } from "../repo/manifest.ts";
import type { LineageFacts } from "../repo/wal.ts";
import type { WalInventory } from "../repo/wal-inventory.ts";
import { refuseAmbiguous } from "./recovery-ambiguity.ts";
import { type ChosenBackup, chooseBackup, endsBefore, notOnTheWay } from "./recovery-backup.ts";
import { segmentsIn, upTo } from "./recovery-coverage.ts";
import { namingOthers } from "./recovery-elsewhere.ts";
import { knownTimelines, type Leg, legsFrom, pathTo } from "./recovery-path.ts";
import { assertReachable, type Reach, reachOf } from "./recovery-reach.ts";
import { ofOneServer, type ServerHistory } from "./recovery-server.ts";
import {
  describeTarget,
  momentText,
  type RecoveryAction,
  type RecoveryTarget,
  type TimelineChoice,
} from "./recovery-target.ts";

/** A base backup: a manifest that has its facts. */
export type BaseManifest = Manifest & { base: BaseFacts };

/** What is last on a timeline's path before `endLsn`. */
export interface StoredEnd {
  systemId: string;
  timeline: number;
  /** Where WAL without a gap ends there: the end of a run of segments, or where the next timeline left it. */
  endLsn: Lsn;
  /** The last commit or abort, in microseconds since 1970; `undefined`: there is none between the run's start and its end. */
  last: { timeUs: bigint; lsn: Lsn } | undefined;
  /** Where the last record of any kind begins. */
  lastRecordLsn: Lsn | undefined;
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
  /** In which moments are told besides UTC. */
  timeZone?: string | undefined;
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
  /** Where WAL is missing that lies behind the target. */
  gapAt?: Lsn | undefined;
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
 * files with `no-backup-for-target`, `wal-gap`, `timeline-unreachable` or `target-not-archived`, with `backup-missing`
 * for a backup or a link that is not there, and with `usage` when the request leaves open which history is meant.
 */
export function planRecovery(inventory: RecoveryInventory, request: RecoveryRequest): RecoveryPlan {
  return ofOneServer(inventory, request, (server) =>
    namingOthers(server, request, (exactly) => planOn(server, exactly)),
  );
}

function planOn(server: ServerHistory, request: RecoveryRequest): RecoveryPlan {
  const way = chooseTimeline(server, request);
  const chosen = chooseBackup(server.backups, way.legs, request);
  if (request.timeline === "latest") refuseAmbiguous(server, chosen.legs, request.target);
  const { backup, chain, legs } = chosen;
  const reach = reachOf(server, backup, legs);
  assertReachable(server, chosen, reach, request);
  const wal = upTo(reach.coverage, neededEnd(request.target, backup, reach), backup.base.segmentBytes);
  const files = chain.flatMap((link) => link.files);
  return {
    ...{ instance: server.instance, backup, chain, systemId: server.systemId, lineage: server.wal?.lineage },
    ...{ target: request.target, action: request.action, timeline: way.timeline },
    targetTimeline: targetTimeline(way, backup),
    wal: wal.map(({ timeline, startLsn, endLsn }) => ({ timeline, startLsn, endLsn })),
    gapAt: reach.coverage.gap?.startLsn,
    walSegments: sum(wal.map((stretch) => segmentsIn(stretch, backup.base.segmentBytes))),
    walStoredBytes: Math.round(
      sum(wal.map((stretch) => segmentsIn(stretch, backup.base.segmentBytes) * stretch.segmentStoredBytes)),
    ),
    objects: sum(files.map(({ volumes }) => volumes.length)),
    storedBytes: sum(files.flatMap(({ volumes }) => volumes.map(({ storedBytes }) => storedBytes))),
    restoredBytes: backup.base.sizeBytes,
    latest: { time: momentText(reach.latestUs), lsn: reach.latestLsn },
    notes: [...way.notes, ...chosen.notes, ...notesOn(request, chosen, reach)],
  };
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

interface Way {
  timeline: number;
  legs: Leg[];
  historyKnown: boolean;
  notes: string[];
}

/** The timeline of the target. The latest is the newest that any base backup leads to. */
function chooseTimeline(server: ServerHistory, request: RecoveryRequest): Way {
  const { backups, wal } = server;
  if (request.timeline === "current") {
    const suitable = backups.filter((backup) => endsBefore(backup, request.target));
    const backup = backups.find(({ id }) => id === request.backup) ?? suitable.at(-1) ?? backups.at(-1);
    return { timeline: backup?.base.timeline ?? 1, ...pathTo(backup?.base.timeline ?? 1, wal), notes: [] };
  }
  const known = knownTimelines(
    wal,
    backups.map(({ base }) => base),
  );
  const asked = request.backup === undefined ? backups : backups.filter(({ id }) => id === request.backup);
  if (request.timeline !== "latest") {
    const way = { timeline: request.timeline, ...pathTo(request.timeline, wal), notes: [] };
    if (!known.includes(way.timeline)) throw unknownTimeline(way.timeline, known, server.instance);
    if (backups.length > 0 && !leads(way.legs, backups)) throw notOnTheWay(backups, way.legs);
    return way;
  }
  const ways = known.map((timeline) => ({ timeline, ...pathTo(timeline, wal) }));
  const way = ways.find(({ legs }) => leads(legs, asked)) ?? ways[0];
  if (way === undefined) return { timeline: 1, ...pathTo(1, wal), notes: [] };
  const newer = ways.slice(0, ways.indexOf(way)).map(({ timeline }) => timeline);
  const because = request.backup === undefined ? "no base backup leads to it" : `${request.backup} does not lead to it`;
  return { ...way, notes: newer.map((timeline) => `timeline ${timeline} is newer, and ${because}`) };
}

function leads(legs: readonly Leg[], backups: readonly BaseManifest[]): boolean {
  return backups.some(({ base }) => legsFrom(base, legs) !== undefined);
}

function unknownTimeline(timeline: number, known: readonly number[], instance: string): PgkitError {
  const message = `nothing of timeline ${timeline} of ${instance} is in the repository`;
  return new PgkitError("timeline-unreachable", message, {
    hint: `there are: ${known.toReversed().join(", ") || "none"}`,
  });
}

/** PostgreSQL knows a timeline by its history file; that of the backup needs none. */
function targetTimeline({ timeline, historyKnown }: Way, { base }: BaseManifest): string {
  return timeline === base.timeline && !historyKnown ? "current" : String(timeline);
}

function neededEnd(target: RecoveryTarget, { base }: BaseManifest, { coverage: { endLsn } }: Reach): Lsn {
  if (target.type === "immediate") return parseLsn(base.stopLsn);
  if (target.type !== "lsn") return endLsn;
  // The record that shows that the target was reached may begin in the segment behind it, which can be a partial one.
  const { startLsn } = segmentAt(base.timeline, target.lsn, base.segmentBytes);
  return startLsn + 2n * BigInt(base.segmentBytes) >= endLsn ? endLsn : target.lsn + 1n;
}

function notesOn({ target, backup: asked }: RecoveryRequest, { legs, backup }: ChosenBackup, reach: Reach): string[] {
  const notes = legs.flatMap(({ timeline, endLsn }) =>
    endLsn === undefined ? [] : [`timeline ${timeline} is followed until ${formatLsn(endLsn)}, where it was left`],
  );
  const unknown = target.type === "xid" || target.type === "name";
  if (unknown && asked === undefined) {
    notes.push(
      `where ${describeTarget(target)} is, is not known before recovery: when it is older than ${backup.id}, name an older backup by --backup`,
    );
  }
  if (unknown && reach.coverage.gap !== undefined) {
    notes.push(`WAL from ${formatLsn(reach.coverage.endLsn)} on is missing: a target behind it cannot be reached`);
  }
  return notes;
}
