import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { addressOf } from "../postgres/connection.ts";
import { type Replication, withReplication } from "../postgres/replication.ts";
import { type BaseBackupStart, receiveBaseBackup } from "../postgres/replication-base.ts";
import type { BaseArchives } from "./base-archives.ts";
import type { BaseOrder, BaseRange } from "./base-engine.ts";
import { keepWal } from "./base-slot.ts";

/** Takes it by BASE_BACKUP itself: one connection, one stream, nothing on a local disk. */
export async function protocolEngine(order: BaseOrder, archives: BaseArchives): Promise<BaseRange> {
  const { connection, signal, level, workers, report } = order;
  return withReplication(connection, { signal }, async (replication) => {
    const { parentManifest } = order;
    if (order.withWal) await keepWal(order, replication);
    if (parentManifest !== undefined) await replication.run({ text: "UPLOAD_MANIFEST", copyIn: parentManifest });
    for (const compression of [{ level, workers }, { level, workers: 0 }, undefined]) {
      try {
        return await receive(order, archives, replication, compression);
      } catch (error) {
        // It refuses before it sends anything.
        if (compression === undefined || !refusesCompression(error)) throw error;
        const message = `${addressOf(connection)} does not compress so: ${error.message}; going on with less`;
        report({ type: "warning", message, hint: "a server built with zstd sends much less" });
      }
    }
    throw new Error("the last attempt is without compression");
  });
}

/** What a server says that was built without zstd, or whose zstd has no threads. */
export function refusesCompression(error: unknown): error is Error {
  if (!isPgkitError(error, "postgres-failed", "tool-failed")) return false;
  return /zstd compression is not supported|set compression (worker|flag)|invalid compression specification/.test(
    error.message,
  );
}

async function receive(
  order: BaseOrder,
  archives: BaseArchives,
  replication: Replication,
  compression: { level: number; workers: number } | undefined,
): Promise<BaseRange> {
  let start: BaseBackupStart | undefined;
  const { timeline, stopLsn } = await receiveBaseBackup(
    replication,
    { ...order, wal: order.withWal, incremental: order.parentManifest !== undefined, compression },
    {
      onStart: (begun) => {
        start = begun;
        order.onProgress(0, begun.expectedBytes);
      },
      onProgress: (bytes) => order.onProgress(bytes, Math.max(bytes, start?.expectedBytes ?? 0)),
      onArchive: ({ name, content }) => archives.take(name, content),
    },
  );
  if (start?.timeline === timeline)
    return { timeline, stopLsn, startLsn: start.startLsn, sizeBytes: start.expectedBytes };
  const message = `${addressOf(order.connection)} went from timeline ${start?.timeline} to ${timeline} during the backup`;
  throw new PgkitError("postgres-failed", message, { hint: "it was promoted; take the backup again" });
}
