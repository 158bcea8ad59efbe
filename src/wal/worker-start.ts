import { spawn } from "node:child_process";

/**
 * Starts a worker that outlives us: in a session of its own, so that what ends PostgreSQL's processes does not reach it,
 * and with no stream of ours, so that nobody waits for it. A shell stays above it and always ends with 0: where the
 * postmaster is the first process of a container, the worker becomes its child, and PostgreSQL up to 17 takes a child that
 * is killed or ends with more than 1 for a crashed backend and restarts.
 */
export function startWorker(words: readonly string[], dataDir: string): void {
  const script = '"$@"; exit 0';
  const child = spawn("/bin/sh", ["-c", script, "pgkit", ...words], { cwd: dataDir, detached: true, stdio: "ignore" });
  // Where there are no more processes to be had, the caller's own work goes on, and the next call tries again.
  child.on("error", () => undefined);
  child.unref();
}
