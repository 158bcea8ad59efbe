import { Worker } from "node:worker_threads";
import { type Bytes, isToItsEnd } from "../lib/streams.ts";
import type { RunAs } from "../postgres/run-as.ts";

/**
 * Writes files in a thread of its own: while that one is in the file system's code, this one reads and sums up what comes
 * next, and the thread pool decompresses. Handing each write to the pool took a tenth more of the processors, and of this
 * thread as much as writing did.
 */
export interface FileThread {
  /** Files that come one after the other; lanes go side by side. */
  lane(): Lane;
  /** Waits until all is written. Fails with what the system said where something is not. */
  finish(): Promise<void>;
  /** Ends the thread, whatever it has written by then. */
  end(): Promise<void>;
}

export interface Lane {
  /**
   * Passes on what the files are taken out of, and has each piece written once the next is asked for. `owned` where nobody
   * else holds its memory, as `lent` wants it: that goes to the thread, and is free when it is written.
   */
  pieces(source: Bytes, owned: boolean): Bytes;
  /** Makes a file anew, in the place of whatever is there. */
  create(file: NewFile): void;
  /** What is to be written next into the file made last: a part of the piece that came last. */
  write(part: Uint8Array): void;
}

export interface NewFile {
  path: string;
  mode: number;
  owner: RunAs | undefined;
}

/** One piece's worth of work, in order; the bytes to write are those of `memory`. */
interface Task {
  lane: number;
  steps: ({ create: NewFile } | { from: number; to: number } | { close: true })[];
  memory: ArrayBuffer;
}

/** What the system said, as far as it can be passed on between threads. */
type Answer = Pick<NodeJS.ErrnoException, "message" | "code" | "syscall" | "path"> | undefined;

/** Pieces that may wait for the thread, of 512 KiB as zstd gives them. */
const waitingTasks = 4;

export function fileThread(): FileThread {
  let thread: Worker | undefined;
  let failure: Error | undefined;
  let [lanes, posted, done] = [0, 0, 0];
  const waiting: (() => void)[] = [];
  const wake = () => {
    for (const resolve of waiting.splice(0)) resolve();
  };
  const fails = (error: Error) => {
    failure ??= error;
    wake();
  };
  const start = () => {
    const started = new Worker(`(${serve})(require("node:worker_threads"), (${workIn})(require("node:fs")))`, {
      eval: true,
      resourceLimits: { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 16, stackSizeMb: 1 },
    });
    started.on("message", (answer: Answer) => {
      done++;
      if (answer === undefined) wake();
      else fails(Object.assign(new Error(answer.message), answer));
    });
    started.on("error", fails);
    started.on("exit", () => fails(new Error("the thread that writes files has ended")));
    return started;
  };
  const until = async (most: number) => {
    while (failure === undefined && posted - done > most) {
      await new Promise<void>((resolve) => void waiting.push(resolve));
    }
    if (failure !== undefined) throw failure;
  };
  const post = async (task: Task) => {
    thread ??= start();
    posted++;
    thread.postMessage(task, [task.memory]);
    await until(waitingTasks);
  };
  return {
    lane: () => laneOf(lanes++, post),
    finish: () => until(0),
    end: async () => void (await thread?.terminate()),
  };
}

function laneOf(lane: number, post: (task: Task) => Promise<void>): Lane {
  let steps: ({ create: NewFile } | { part: Uint8Array } | { close: true })[] = [];
  const flush = async (piece: Uint8Array, owned: boolean) => {
    const [taken, parts] = [steps, steps.flatMap((step) => ("part" in step ? [step.part] : []))];
    steps = [];
    if (taken.length === 0) return;
    // What a decompressor has not given to the end of its memory, it goes on to fill.
    const given = owned && parts.length > 0 && isToItsEnd(piece);
    const memory = given ? piece.buffer : Uint8Array.from(Buffer.concat(parts)).buffer;
    let next = 0;
    const placed = taken.map((step) => {
      if (!("part" in step)) return step;
      const from = given ? step.part.byteOffset : next;
      next += step.part.length;
      return { from, to: from + step.part.length };
    });
    await post({ lane, steps: placed, memory });
  };
  return {
    async *pieces(source, owned) {
      for await (const piece of source) {
        yield piece;
        await flush(piece, owned);
      }
      steps.push({ close: true });
      await flush(new Uint8Array(0), false);
    },
    create: (file) => void steps.push({ create: file }),
    write: (part) => void steps.push({ part }),
  };
}

/** What runs in the thread. This and `workIn` are sent there as text, so that they can use nothing but what they are given. */
function serve({ parentPort }: typeof import("node:worker_threads"), work: (task: Task) => void): void {
  let failed = false;
  parentPort?.on("message", (task: Task) => {
    if (failed) return;
    try {
      work(task);
      parentPort.postMessage(undefined);
    } catch (error) {
      failed = true;
      const { message, code, syscall, path } = error as NodeJS.ErrnoException;
      parentPort.postMessage({ message, code, syscall, path });
    }
    // Else it would be there until the collector of this thread's heap, which has nothing to do, looks for it.
    task.memory.transfer(0);
  });
}

function workIn({ closeSync, fchmodSync, fchownSync, openSync, rmSync, writeSync }: typeof import("node:fs")) {
  const files = new Map<number, number>();
  /** Never through what is there already: it may be a link, or shared with another directory by hard links. */
  const create = (path: string) => {
    try {
      return openSync(path, "wx", 0o600);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      rmSync(path, { recursive: true, force: true });
      return openSync(path, "wx", 0o600);
    }
  };
  const close = (lane: number) => {
    const file = files.get(lane);
    files.delete(lane);
    if (file !== undefined) closeSync(file);
  };
  const make = (lane: number, { path, mode, owner }: NewFile) => {
    close(lane);
    const file = create(path);
    files.set(lane, file);
    if (owner !== undefined) fchownSync(file, owner.uid, owner.gid);
    if (mode !== 0o600) fchmodSync(file, mode);
  };
  return ({ lane, steps, memory }: Task): void => {
    const bytes = new Uint8Array(memory);
    for (const step of steps) {
      if ("create" in step) make(lane, step.create);
      else if ("close" in step) close(lane);
      else for (let at = step.from; at < step.to; ) at += writeSync(files.get(lane) ?? -1, bytes, at, step.to - at);
    }
  };
}
