import { formatBytes, formatDuration } from "../lib/parse.ts";
import { rfc3339 } from "../lib/time.ts";
import type { SlotHealth } from "../postgres/archiving-health.ts";
import type { ArchivingServer, HealthFinding, HealthInput, SetUp } from "./health.ts";
import { streamFindings } from "./health-stream.ts";
import { type Level, lagLevel } from "./stream-lag.ts";

export type WithServer = HealthInput & { server: ArchivingServer };

/** What the server says of its archiver, its slots, pg_wal and its disk. */
export function serverFindings(input: WithServer, setUp: SetUp): HealthFinding[] {
  const { server, expected } = input;
  const archives = server.facts.settings.get("archive_mode")?.running !== "off" && !server.health.inRecovery;
  const others = server.health.slots.filter(({ name }) => name !== expected.slot);
  return [
    ...(archives ? [archiver(input, setUp), ...backlog(input)] : []),
    ...(setUp.bySlot ? streamFindings(input) : []),
    ...others.flatMap((slot) => otherSlot(slot, expected)),
    ...walDir(input),
    ...(setUp.meant ? disk(input) : []),
    ...server.health.unseen.map((remedy) => ({
      ...{ name: "archiving privileges", level: "warn" as const, remedy },
      message: "the size of pg_wal and what waits for the archiver cannot be seen by this user",
    })),
  ];
}

/** Failing is what it is from the first time on: the server keeps all WAL until its disk is full. */
function archiver({ server }: WithServer, { byCommand }: SetUp): HealthFinding {
  const { lastArchived, lastFailed, failed } = server.health.archiver;
  const whose = byCommand ? "archive_command" : "archive_command, which is not pgkit's,";
  const last =
    lastArchived === undefined ? "nothing was ever archived" : `the last success was at ${rfc3339(lastArchived.at)}`;
  if (lastFailed !== undefined && (lastArchived === undefined || lastFailed.at >= lastArchived.at)) {
    return {
      ...{ name: "archiver", level: "alert" },
      message: `${whose} fails: last at ${rfc3339(lastFailed.at)} for ${lastFailed.wal}, ${failed} time(s) in all; ${last}`,
      remedy: "the server's log has what it said; pgkit check tells whether the repository takes what is stored",
    };
  }
  if (lastArchived === undefined) return { name: "archiver", level: "ok", message: "no segment was complete yet" };
  return { name: "archiver", level: "ok", message: `${lastArchived.wal} was archived at ${rfc3339(lastArchived.at)}` };
}

function backlog({ server, expected }: WithServer): HealthFinding[] {
  const { waiting, now } = server.health;
  if (waiting === undefined) return [];
  if (waiting.files === 0) return [{ name: "backlog", level: "ok", message: "no segment waits for the archiver" }];
  const bytes = waiting.files * segmentBytes(server);
  const seconds = waiting.oldestAt === undefined ? 0 : Math.max(0, (now.getTime() - waiting.oldestAt.getTime()) / 1000);
  const message = `${waiting.files} file(s) of WAL (${formatBytes(bytes)}) wait for the archiver, the oldest for ${formatDuration(Math.round(seconds) * 1000)}`;
  return [{ name: "backlog", ...judged(lagLevel(bytes, seconds, expected), message, slowHelp) }];
}

const slowHelp =
  "is the repository reachable, and fast enough (archive.parallel)? until it is stored, the server keeps it in pg_wal";

function otherSlot(
  { name, active, retainedBytes = 0, walStatus }: SlotHealth,
  limits: WithServer["expected"],
): HealthFinding[] {
  const level = lagLevel(retainedBytes, 0, limits);
  if (level === "fine" || active || walStatus === "lost") return [];
  const message = `the slot ${name}, which nobody uses, keeps ${formatBytes(retainedBytes)} of WAL on the server`;
  return [
    { name: "slot", ...judged(level, message, `start what uses it, or SELECT pg_drop_replication_slot('${name}')`) },
  ];
}

function walDir({ server, expected }: WithServer): HealthFinding[] {
  const { walDir: folder, usualWalBytes } = server.health;
  if (folder === undefined) return [];
  const excess = folder.bytes - usualWalBytes;
  const message = `pg_wal has ${formatBytes(folder.bytes)}`;
  const level = lagLevel(Math.max(0, excess), 0, expected);
  if (level === "fine") return [{ name: "wal folder", level: "ok", message }];
  const more = `${message}, ${formatBytes(excess)} more than max_wal_size and wal_keep_size ask for`;
  return [
    {
      name: "wal folder",
      ...judged(level, more, "something keeps it: the archiver, a slot, or a long checkpoint; see the other findings"),
    },
  ];
}

/** Parts of the disk below which the server may soon stop: without room for WAL it ends every session. */
const warnFree = 0.1;
const alertFree = 0.05;

function disk({ server }: WithServer): HealthFinding[] {
  if ("unknown" in server.disk) {
    return [
      { name: "disk", level: "ok", message: `the room on the server's disk is not known: ${server.disk.unknown}` },
    ];
  }
  const { freeBytes, totalBytes } = server.disk;
  const message = `the disk of pg_wal has ${formatBytes(freeBytes)} free of ${formatBytes(totalBytes)}`;
  const part = freeBytes / totalBytes;
  const level = part < alertFree ? "alert" : part < warnFree ? "warn" : "fine";
  return [
    { name: "disk", ...judged(level, message, "free space or enlarge it: a server that cannot write WAL stops") },
  ];
}

export function judged(
  level: Level,
  message: string,
  remedy: string,
): Pick<HealthFinding, "level" | "message" | "remedy"> {
  return level === "fine" ? { level: "ok", message } : { level, message, remedy };
}

export function segmentBytes({ facts }: ArchivingServer): number {
  return Number(facts.settings.get("wal_segment_size")?.running ?? 16 * 1024 ** 2);
}
