import { closeSync, writeSync } from "node:fs";
import { parentPort } from "node:worker_threads";
import { type FileChecksum, fileChecksum } from "../lib/file-checksum.ts";
import { create, settle } from "./cluster-write.ts";
import type { Answer, Differing, NewFile, Task } from "./file-thread.ts";

/** What runs in the thread of `fileThread`; a program of its own in the build, next to pgkit's. */

/** The file that a lane is at. */
interface OpenFile extends NewFile {
  handle: number;
  sum: FileChecksum;
}

const files = new Map<number, OpenFile>();
let failed = false;

parentPort?.on("message", (task: Task) => {
  if (failed) return;
  let answer: Answer;
  try {
    answer = { differing: work(task) };
  } catch (error) {
    failed = true;
    const { message, code, syscall, path } = error as NodeJS.ErrnoException;
    answer = { failure: { message, code, syscall, path } };
  }
  // Else it would be there until the collector of this thread's heap, which has nothing to do, looks for it.
  task.memory.transfer(0);
  parentPort?.postMessage(answer);
});

/** Gives the files that were ended and are not what they should be. */
function work({ lane, steps, memory }: Task): Differing[] {
  const bytes = new Uint8Array(memory);
  const differing: Differing[] = [];
  for (const step of steps) {
    if ("from" in step) write(lane, bytes.subarray(step.from, step.to));
    else differing.push(...end(lane));
    if ("create" in step) begin(lane, step.create);
  }
  return differing;
}

function begin(lane: number, file: NewFile): void {
  const { path, mode, owner, expected } = file;
  const handle = create(path);
  files.set(lane, { ...file, handle, sum: fileChecksum(expected?.algorithm ?? "NONE") });
  settle(handle, mode, owner);
}

function write(lane: number, bytes: Uint8Array): void {
  const file = files.get(lane);
  if (file === undefined) throw new Error("bytes came before their file");
  for (let at = 0; at < bytes.length; ) at += writeSync(file.handle, bytes, at, bytes.length - at);
  file.sum.update(bytes);
}

function end(lane: number): Differing[] {
  const file = files.get(lane);
  if (file === undefined) return [];
  const { handle, sum, expected } = file;
  files.delete(lane);
  closeSync(handle);
  const found = sum.digest();
  return expected === undefined || found === expected.checksum ? [] : [{ expected, found }];
}
