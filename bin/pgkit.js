#!/usr/bin/env node
import * as nodeModule from "node:module";
import { setFlagsFromString } from "node:v8";

let answered = false;
const args = process.argv.slice(2);
if (args.includes("wal") && args.includes("fetch")) {
  // PostgreSQL takes whatever is below 126 for the end of the archive: only an answer of ours may be that.
  process.on("exit", () => {
    if (!answered) process.exitCode = 200;
  });
}

if (Number.parseInt(process.versions.node, 10) < 24) {
  console.error(
    `pgkit: this is Node ${process.versions.node}, and pgkit needs 24 or newer\nhint: which node is first in the PATH?`,
  );
  process.exitCode = 2;
} else {
  const isStreamer = args.includes("wal") && args.includes("stream");
  // glibc keeps what is freed for the thread that had it, and cuts large blocks out of the common heap between small ones: 30 MB of a
  // streamer. It reads these when a process begins, and so we begin again, as the same process.
  if (isStreamer && process.platform === "linux" && process.env.MALLOC_MMAP_THRESHOLD_ === undefined) {
    const env = { ...process.env, MALLOC_ARENA_MAX: "1", MALLOC_MMAP_THRESHOLD_: "1048576" };
    process.execve?.(process.execPath, [process.execPath, ...process.execArgv, ...process.argv.slice(1)], env);
  }
  // pgkit moves bytes and computes little: a small heap held 3.5 GB to S3 at 168 instead of 217 MB, in no more time.
  setFlagsFromString("--optimize-for-size");
  // With it V8 lets its heap grow by a tenth until it marks it all again, and counts buffers: every few MB that went through
  // cost a mark, a third of pgkit's CPU in a base backup. So it may grow to four times, of the 12 MB that are left after a mark.
  // But not for the streamer, which runs all the time beside a server, and rather stays small.
  if (!isStreamer) setFlagsFromString("--heap-growing-percent=300");
  nodeModule.enableCompileCache();
  const { main } = await import("../dist/pgkit.js");
  process.exitCode = await main(process.argv, process.env);
  answered = true;
}
