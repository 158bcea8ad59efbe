import { open, realpath, statfs } from "node:fs/promises";
import { join } from "node:path";

/** The room on the disk of pg_wal, or why it cannot be seen from here. */
export type WalDisk = { freeBytes: number; totalBytes: number } | { unknown: string };

/** The disk of pg_wal where the data directory of that very server is on this machine. */
export async function walDisk(dataDirectory: string | undefined, systemId: string): Promise<WalDisk> {
  if (dataDirectory === undefined) return { unknown: "the user may not see where the data directory is" };
  const here = await systemIdIn(dataDirectory);
  if (typeof here !== "string") return here;
  if (here !== systemId) return { unknown: `${dataDirectory} on this machine is of another server` };
  const { bavail, blocks, bsize } = await statfs(await realpath(join(dataDirectory, "pg_wal")));
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
}

/** pg_control begins with the system identifier in every major. */
async function systemIdIn(dataDirectory: string): Promise<string | { unknown: string }> {
  try {
    const file = await open(join(dataDirectory, "global", "pg_control"));
    try {
      const { buffer } = await file.read(Buffer.alloc(8), 0, 8, 0);
      return buffer.readBigUInt64LE(0).toString();
    } finally {
      await file.close();
    }
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT" || code === "ENOTDIR") return { unknown: `${dataDirectory} is not on this machine` };
    if (code === "EACCES" || code === "EPERM") return { unknown: `${dataDirectory} is closed to this user` };
    throw error;
  }
}
