import { readFile, readlink, realpath } from "node:fs/promises";
import { join } from "node:path";
import { PgkitError } from "../lib/errors.ts";
import { unlessAbsent } from "../store/file/errors.ts";

/**
 * Fails with `refused-overwrite` where a server runs on `dataDir`: by the process in postmaster.pid, and whether others use
 * its shared memory still. That file outlives a server that was killed, and in a new container its number is soon that of
 * another process: a server works in its data directory, and nothing else does. A server of another container is not seen.
 */
export async function assertNotRunning(dataDir: string): Promise<void> {
  const text = await unlessAbsent(readFile(join(dataDir, "postmaster.pid"), "utf8"));
  if (text === undefined) return;
  const lines = text.split("\n");
  const pid = Math.abs(Number(lines[0]));
  const segment = lines[6]?.trim().split(/\s+/)[1];
  const inUse = segment !== undefined && (await isAttached(segment));
  if (!inUse && !(pid > 0 && isAlive(pid) && (await worksIn(pid, dataDir)))) return;
  throw new PgkitError("refused-overwrite", `a server runs on ${dataDir} (process ${pid}, by its postmaster.pid)`, {
    hint: "stop it first; if that process is none of PostgreSQL's, remove postmaster.pid",
  });
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // EPERM: it runs, as another user.
    return !(error instanceof Error && "code" in error && error.code === "ESRCH");
  }
}

/** True also where this user may not know. */
async function worksIn(pid: number, dataDir: string): Promise<boolean> {
  try {
    return (await unlessAbsent(readlink(`/proc/${pid}/cwd`))) === (await realpath(dataDir));
  } catch (error) {
    if (error instanceof Error && "code" in error && (error.code === "EACCES" || error.code === "EPERM")) return true;
    throw error;
  }
}

/** The columns of /proc/sysvipc/shm (proc(5)): key, shmid, perms, size, cpid, lpid, nattch. */
async function isAttached(shmid: string): Promise<boolean> {
  const table = (await unlessAbsent(readFile("/proc/sysvipc/shm", "utf8"))) ?? "";
  const row = table.split("\n").find((line) => line.trim().split(/\s+/)[1] === shmid);
  return row !== undefined && Number(row.trim().split(/\s+/)[6]) > 0;
}
