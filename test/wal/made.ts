import { mkdir, mkdtemp, rename, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseSegmentName } from "../../src/lib/lsn.ts";
import { systemClock } from "../../src/lib/time.ts";
import type { Repository } from "../../src/repo/repository.ts";
import type { ArchiveOf, Destination } from "../../src/wal/push.ts";

export const systemId = "7000000000000000001";
export const segmentBytes = 1024 * 1024;
export const nameOf = (number: number, timeline = 1) =>
  `${timeline.toString(16).padStart(8, "0")}00000000${number.toString(16).padStart(8, "0")}`.toUpperCase();

/** A segment with the header that a server of this system would write, and a content of its own. */
export function made(name: string, { system = systemId, fill = 7, length = segmentBytes } = {}): Buffer {
  const bytes = Buffer.alloc(length, fill);
  const { timeline, startLsn } = parseSegmentName(name, segmentBytes) ?? { timeline: 0, startLsn: 0n };
  bytes.writeUInt16LE(0xd110, 0);
  bytes.writeUInt16LE(2, 2);
  bytes.writeUInt32LE(timeline, 4);
  bytes.writeBigUInt64LE(startLsn, 8);
  bytes.writeUInt32LE(0, 16);
  bytes.writeUInt32LE(0, 20);
  bytes.writeBigUInt64LE(BigInt(system), 24);
  bytes.writeUInt32LE(segmentBytes, 32);
  bytes.writeUInt32LE(8192, 36);
  return bytes;
}

export interface MadeServer extends ArchiveOf {
  /** Puts a file into pg_wal and says that it is ready. */
  ready(name: string, content?: Buffer | string): Promise<void>;
  /** What PostgreSQL does once archive_command has ended with 0. */
  done(name: string): Promise<void>;
}

/** A data directory with no server in it, except for a note that this process is one. */
export async function madeServer(): Promise<MadeServer> {
  const dataDir = await mkdtemp(join(tmpdir(), "pgkit-made-"));
  const status = join(dataDir, "pg_wal", "archive_status");
  await mkdir(status, { recursive: true });
  await mkdir(join(dataDir, "global"));
  const control = Buffer.alloc(8192);
  control.writeBigUInt64LE(BigInt(systemId));
  await writeFile(join(dataDir, "global", "pg_control"), control);
  await writeFile(join(dataDir, "PG_VERSION"), "15\n");
  await writeFile(join(dataDir, "postmaster.pid"), `${process.pid}\n`);
  return {
    ...{ instance: "main", dataDir, cluster: { systemId, serverVersion: "15" }, clock: systemClock },
    ready: async (name, content = made(name)) => {
      await writeFile(join(dataDir, "pg_wal", name), content);
      await writeFile(join(status, `${name}.ready`), "");
    },
    done: async (name) => await rename(join(status, `${name}.ready`), join(status, `${name}.done`)),
  };
}

export function destination(repository: Repository): Destination {
  return { where: repository.where, open: async () => repository };
}
