import { PgkitError } from "../lib/errors.ts";
import { type Lsn, parseLsn } from "../lib/lsn.ts";
import type { Replication, ReplicationRow } from "./replication.ts";
import { type Archive, archiveStream } from "./replication-archives.ts";
import { damagedFileIn, pageError } from "./replication-errors.ts";

export interface BaseBackupCommand {
  label: string;
  checkpoint: "fast" | "spread";
  /** The WAL from start to stop goes into the archive of the data directory. */
  wal: boolean;
  /** How the server compresses what it sends; `undefined`: it does not. */
  compression: { level: number; workers: number } | undefined;
  /** Bytes a second. */
  maxRate?: number | undefined;
  /** Only what changed since the backup whose manifest was uploaded (17+). */
  incremental?: boolean;
}

/** Where the backup begins; its tablespaces with the sizes that the server expects. */
export interface BaseBackupStart {
  timeline: number;
  startLsn: Lsn;
  expectedBytes: number;
}

export interface BaseBackupStop {
  timeline: number;
  stopLsn: Lsn;
}

export interface BaseBackupReceiver {
  onStart(start: BaseBackupStart): void;
  /** Bytes of the data directory that the server has read so far. */
  onProgress(bytes: number): void;
  /** Takes one archive after the other. */
  onArchive(archive: Archive): Promise<void>;
}

/**
 * Runs BASE_BACKUP and hands over its archives as they come, in one stream and with nothing on a local disk; gives
 * where it stopped. Does not wait for WAL to be archived. Fails with `page-corrupt`, naming the files, when the server
 * found wrong page checksums. Protocol: https://www.postgresql.org/docs/current/protocol-replication.html
 */
export async function receiveBaseBackup(
  replication: Replication,
  command: BaseBackupCommand,
  receiver: BaseBackupReceiver,
): Promise<BaseBackupStop> {
  const results: ReplicationRow[][] = [];
  const stream = archiveStream(replication, receiver.onProgress);
  let started = false;
  const onCopyData = (payload: Buffer) => {
    if (!started) receiver.onStart(startOf(results));
    started = true;
    stream.onCopyData(payload);
  };
  const damaged: string[] = [];
  replication.onNotice((notice) => damaged.push(...[damagedFileIn(notice)].filter((file) => file !== undefined)));
  const running = replication.run({ text: commandText(command), onCopyData }, results);
  running.then(stream.end, stream.fail);
  try {
    for await (const archive of stream.archives()) await receiver.onArchive(archive);
  } catch (error) {
    stream.drop();
    throw pageError(error, damaged);
  }
  await running;
  return stopOf(results);
}

function commandText(command: BaseBackupCommand): string {
  const { compression, maxRate } = command;
  const options = [
    `LABEL ${text(command.label)}`,
    "PROGRESS true",
    `CHECKPOINT ${text(command.checkpoint)}`,
    `WAL ${command.wal}`,
    "WAIT false",
    "TABLESPACE_MAP true",
    "VERIFY_CHECKSUMS true",
    "MANIFEST 'yes'",
    "MANIFEST_CHECKSUMS 'CRC32C'",
    ...(maxRate === undefined ? [] : [`MAX_RATE ${rateInKilobytes(maxRate)}`]),
    ...(compression === undefined ? [] : compressionOptions(compression)),
    ...(command.incremental === true ? ["INCREMENTAL true"] : []),
  ];
  return `BASE_BACKUP (${options.join(", ")})`;
}

function compressionOptions({ level, workers }: { level: number; workers: number }): string[] {
  const detail = workers > 0 ? `level=${level},workers=${workers}` : `level=${level}`;
  return ["COMPRESSION 'zstd'", `COMPRESSION_DETAIL ${text(detail)}`];
}

/** What the server takes: 32 kB to 1 GB a second. */
function rateInKilobytes(bytes: number): number {
  return Math.min(1_048_576, Math.max(32, Math.round(bytes / 1024)));
}

/** The replication grammar knows no escapes but the doubled quote. */
function text(value: string): string {
  return `'${value.replaceAll("'", "''")}'`;
}

/** Two result sets precede the copy: the start, and a row for each tablespace with its size in kB. */
function startOf(results: readonly ReplicationRow[][]): BaseBackupStart {
  const { lsn, timeline } = positionOf(results[0]);
  const kilobytes = (results[1] ?? []).map(([, , size]) => Number(size ?? 0));
  return { startLsn: lsn, timeline, expectedBytes: kilobytes.reduce((sum, size) => sum + size * 1024, 0) };
}

function stopOf(results: readonly ReplicationRow[][]): BaseBackupStop {
  const { lsn, timeline } = positionOf(results[2]);
  return { stopLsn: lsn, timeline };
}

function positionOf(rows: readonly ReplicationRow[] | undefined): { lsn: Lsn; timeline: number } {
  const [lsn, timeline] = rows?.[0] ?? [];
  if (typeof lsn === "string" && typeof timeline === "string") {
    return { lsn: parseLsn(lsn), timeline: Number(timeline) };
  }
  throw new PgkitError("postgres-failed", "the server's answer to BASE_BACKUP holds no WAL position", {
    hint: "is there a proxy in between that does not know the replication protocol of PostgreSQL 15?",
  });
}
