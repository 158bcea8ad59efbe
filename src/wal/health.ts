import type { ErrorCode } from "../lib/errors.ts";
import type { ArchivingFacts } from "../postgres/archiving.ts";
import type { ArchivingHealth } from "../postgres/archiving-health.ts";
import { serverFindings } from "./health-server.ts";
import { setUpFindings } from "./health-set-up.ts";
import { storedFindings } from "./health-stored.ts";
import { configuredValue } from "./setting-values.ts";
import type { StoredWal } from "./stored-wal.ts";
import type { Thresholds } from "./stream-lag.ts";
import type { StreamStatus } from "./stream-status.ts";
import type { WalDisk } from "./wal-disk.ts";

/** What the configuration asks of an instance's archiving. */
export interface ArchivingExpectation extends Thresholds {
  instance: string;
  method: "archive" | "stream";
  slot: string;
  archiveCommand: string;
  flushEveryMs: number;
  /** How much time of writes may be lost; `undefined`: nothing is said. */
  rpoMs: number | undefined;
  /** Base backups are scheduled: archiving is meant to be. */
  intended: boolean;
}

/** What the server says. */
export interface ArchivingServer {
  systemId: string;
  facts: ArchivingFacts;
  health: ArchivingHealth;
  disk: WalDisk;
}

export interface HealthInput {
  expected: ArchivingExpectation;
  /** `undefined`: it could not be asked. */
  server: ArchivingServer | undefined;
  stored: readonly StoredWal[];
  /** Of the streamer whose folder is on this machine. */
  streamer: StreamStatus | undefined;
  now: Date;
}

/** One sentence on archiving, and what to do. `alert`: what is written now may be lost, or the server may stop. */
export interface HealthFinding {
  name: string;
  level: "ok" | "warn" | "alert";
  message: string;
  remedy?: string;
  code?: ErrorCode;
}

/** How an instance is archived, as far as its server and its repositories show it. */
export interface SetUp {
  /** As the server is set up, else as configured. */
  method: "archive" | "stream";
  /** archive_command is ours; whether archive_mode runs is another matter. */
  byCommand: boolean;
  bySlot: boolean;
  /** Anything says that it is meant to be archived. */
  meant: boolean;
}

/** All findings, pure. */
export function archivingFindings(input: HealthInput): HealthFinding[] {
  const setUp = setUpOf(input);
  const { server } = input;
  return [
    ...(server === undefined ? [] : setUpFindings(input.expected, server, setUp)),
    ...(server === undefined ? [] : serverFindings({ ...input, server }, setUp)),
    ...storedFindings(input, setUp),
  ];
}

export function worstLevel(findings: readonly HealthFinding[]): HealthFinding["level"] {
  const has = (wanted: HealthFinding["level"]) => findings.some(({ level }) => level === wanted);
  if (has("alert")) return "alert";
  return has("warn") ? "warn" : "ok";
}

function setUpOf({ expected, server, stored }: HealthInput): SetUp {
  const command = server && configuredValue(server.facts, "archive_command");
  const byCommand = command === expected.archiveCommand;
  const bySlot = server?.health.slots.some(({ name, physical }) => physical && name === expected.slot) === true;
  const known = stored.some(({ lineages }) => lineages.length > 0);
  const either = bySlot ? "stream" : "archive";
  return {
    method: byCommand === bySlot ? expected.method : either,
    ...{ byCommand, bySlot },
    meant: byCommand || bySlot || known || expected.intended,
  };
}
