import { createReadStream } from "node:fs";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseBackupManifest } from "../lib/backup-manifest.ts";
import { PgkitError } from "../lib/errors.ts";
import { newScratchFolder } from "../lib/scratch.ts";
import type { Programs } from "../postgres/programs.ts";
import { damagedFileIn, pageError } from "../postgres/replication-errors.ts";
import type { Session } from "../postgres/session.ts";
import { runTool } from "../postgres/tools.ts";
import type { BaseArchives } from "./base-archives.ts";
import type { BaseEngine, BaseOrder, BaseRange } from "./base-engine.ts";
import { refusesCompression } from "./base-protocol.ts";
import { keepingWal } from "./base-slot.ts";

/**
 * Takes it by pg_basebackup, for connections that only libpq makes. The program cannot write tablespaces or the manifest to
 * its output, so all of it is on the local disk (TMPDIR) before it is stored.
 */
export function programEngine(programs: Programs, session: Session): BaseEngine {
  return async (order, archives) => {
    const folder = await newScratchFolder("pgkit-base-");
    try {
      const take = () => runProgram(folder, programs, order);
      await (order.withWal ? keepingWal(order, session, take) : take());
      return await store(join(folder, backupName), archives);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  };
}

const backupName = "backup";

async function runProgram(folder: string, programs: Programs, order: BaseOrder): Promise<void> {
  const { connection, signal, parentManifest } = order;
  const dir = join(folder, backupName);
  const parent = join(folder, "parent_manifest");
  if (parentManifest !== undefined) await writeFile(parent, parentManifest, { mode: 0o600 });
  const target = { programs, connection, database: connection.database, applicationName: "pgkit base backup", signal };
  const args = [...argumentsOf(order, dir), ...(parentManifest === undefined ? [] : [`--incremental=${parent}`])];
  await runTool(target, "pg_basebackup", [...args, compressionOf(order)]).catch((error: unknown) => {
    if (!refusesCompression(error)) throw pageError(error, damagedFilesIn(error));
    return runTool(target, "pg_basebackup", args);
  });
}

async function store(dir: string, archives: BaseArchives): Promise<BaseRange> {
  const manifest = await readFile(join(dir, "backup_manifest"));
  const names = (await readdir(dir)).filter((name) => name !== "backup_manifest");
  for (const name of [...names, "backup_manifest"]) await archives.take(name, createReadStream(join(dir, name)));
  return rangeOf(manifest);
}

function argumentsOf({ label, checkpoint, maxRate, withWal }: BaseOrder, dir: string): string[] {
  return [
    ...[`--pgdata=${dir}`, "--format=tar", `--label=${label}`, `--checkpoint=${checkpoint}`, "--no-password"],
    ...[`--wal-method=${withWal ? "fetch" : "none"}`, "--manifest-checksums=CRC32C", "--no-sync"],
    ...(maxRate === undefined ? [] : [`--max-rate=${Math.max(32, Math.round(maxRate / 1024))}`]),
  ];
}

function compressionOf({ level, workers }: BaseOrder): string {
  return `--compress=server-zstd:level=${level}${workers > 0 ? `,workers=${workers}` : ""}`;
}

/** The manifest tells which WAL the backup needs. */
function rangeOf(bytes: Uint8Array): BaseRange {
  const { walRanges, files } = parseBackupManifest(bytes, "backup_manifest from pg_basebackup");
  const [first] = walRanges;
  if (first === undefined || walRanges.length > 1) {
    throw new PgkitError("postgres-failed", `the backup needs WAL of ${walRanges.length} timelines`, {
      hint: "the server was promoted; take the backup again",
    });
  }
  const sizeBytes = [...files.values()].reduce((sum, { size }) => sum + size, 0);
  return { timeline: first.timeline, startLsn: first.startLsn, stopLsn: first.endLsn, sizeBytes };
}

function damagedFilesIn(error: unknown): string[] {
  const lines = error instanceof Error ? error.message.split(" | ") : [];
  return lines.map(damagedFileIn).filter((file) => file !== undefined);
}
