import { spawn } from "node:child_process";
import type { Report } from "../lib/report.ts";
import type { EndGuard } from "../saga/saga.ts";

/**
 * Starts what lets the application in again when this process is killed while it blocks it: a shell in a session of its own
 * that waits for the end of its input, which is the end of this process however it comes, and then runs these words. Nothing
 * but a shell waits, so that it costs the block no time; a container or machine that ends takes it along, and then the
 * server's own deadline lifts the block.
 */
export function startGuard(words: readonly string[], report: Report): EndGuard {
  const script = 'cat >/dev/null; exec "$@"';
  const child = spawn("/bin/sh", ["-c", script, "pgkit", ...words], {
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  child.on("error", (error) => {
    const message = `nothing would lift the block at once if this process were killed: ${error.message}`;
    report({ type: "warning", message, hint: "the server lifts it when --max-block is over" });
  });
  // Neither the process nor its input keeps this one alive.
  child.unref();
  child.stdin.on("error", () => undefined);
  if ("unref" in child.stdin && typeof child.stdin.unref === "function") child.stdin.unref();
  return () => {
    if (child.pid === undefined || child.exitCode !== null) return;
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch (error) {
      // It was killed before us.
      if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
    }
  };
}
