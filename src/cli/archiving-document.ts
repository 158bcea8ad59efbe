import { type HealthFinding, worstLevel } from "../wal/health.ts";
import { archivingLag } from "../wal/status.ts";
import type { ArchivingStatus } from "./archiving-status.ts";

/** The document of `pitr status --json` and `wal status --json`. */
export function statusDocument(status: ArchivingStatus) {
  const { expected, server, stored, streamer, findings } = status;
  const lag = archivingLag(status);
  return {
    instance: expected.instance,
    method: expected.method,
    verdict: worstLevel(findings),
    findings: findings.map(findingJson),
    ...(server === undefined ? {} : { server: serverJson(server) }),
    ...(lag === undefined ? {} : { lag }),
    stored,
    ...(streamer === undefined ? {} : { streamer }),
  };
}

function findingJson({ name, level, message, remedy, code }: HealthFinding) {
  return {
    ...{ name, level, message },
    ...(remedy === undefined ? {} : { remedy }),
    ...(code === undefined ? {} : { code }),
  };
}

function serverJson({ systemId, health, disk }: NonNullable<ArchivingStatus["server"]>) {
  const { inRecovery, timeline, currentLsn, archiver, waiting, walDir, slots, streamers } = health;
  const { archived, failed, lastArchived, lastFailed } = archiver;
  return {
    ...{ systemId, inRecovery, timeline, currentLsn },
    archiver: {
      ...{ archived, failed },
      ...(lastArchived === undefined ? {} : { lastArchived: { wal: lastArchived.wal, time: lastArchived.at } }),
      ...(lastFailed === undefined ? {} : { lastFailed: { wal: lastFailed.wal, time: lastFailed.at } }),
    },
    ...(waiting === undefined ? {} : { waitingFiles: waiting.files }),
    ...(waiting?.oldestAt === undefined ? {} : { waitingSince: waiting.oldestAt }),
    ...(walDir === undefined ? {} : { walBytes: walDir.bytes }),
    ...("unknown" in disk ? {} : { diskFreeBytes: disk.freeBytes, diskTotalBytes: disk.totalBytes }),
    ...{ slots, streamers },
  };
}
