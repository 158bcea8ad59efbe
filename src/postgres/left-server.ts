import { readFile, readlink } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

/** How long a server that was told to stop may take. */
const patienceMs = 10_000;

/**
 * Ends the server on `dataDir`, if one runs there still: it belonged to a process that was killed, and stops by itself
 * soon after. Gives `false` when it does not end.
 */
export async function endLeftServer(dataDir: string): Promise<boolean> {
  const pid = Number((await readOrNothing(readFile(join(dataDir, "postmaster.pid"), "utf8")))?.split("\n")[0]);
  if (!Number.isInteger(pid) || pid < 2) return true;
  for (let waitedMs = 0; waitedMs < patienceMs; waitedMs += 50) {
    // A number in a file may be another process's by now: a server works in its own data directory, nothing else does.
    if ((await readOrNothing(readlink(`/proc/${pid}/cwd`))) !== dataDir) return true;
    end(pid);
    await delay(50);
  }
  return false;
}

function end(pid: number): void {
  try {
    process.kill(pid, "SIGQUIT");
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}

async function readOrNothing(work: Promise<string>): Promise<string | undefined> {
  try {
    return await work;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT" || code === "ENOTDIR" || code === "ESRCH" || code === "EACCES") return undefined;
    throw error;
  }
}
