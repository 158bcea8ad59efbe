import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import type { ManifestFile } from "../lib/backup-manifest.ts";
import { type Bytes, isToItsEnd } from "../lib/streams.ts";
import type { RunAs } from "../postgres/run-as.ts";

/**
 * Writes files in a thread of its own, and compares them with their checksums: this thread only reads and takes apart what
 * comes next, and the thread pool decompresses meanwhile, which cannot begin with a piece while this thread is busy with
 * the last. With the checksums here a restore took a sixth longer; handing each write to the pool took a tenth more of the
 * processors.
 */
export interface FileThread {
  /** Files that come one after the other; lanes go side by side. */
  lane(): Lane;
  /** Waits until all is written; gives the files that are not as expected. Fails with what the system said. */
  finish(): Promise<readonly Differing[]>;
  /** Ends the thread when it has written what it was given: the restore that goes on with this one keeps that. */
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
  /** Of backup_manifest. */
  expected: ManifestFile | undefined;
}

/** A file of which the checksum is another one. */
export interface Differing {
  expected: ManifestFile;
  found: string;
}

/** One piece's worth of work, in order; the bytes to write are those of `memory`. */
export interface Task {
  lane: number;
  /** `create` ends the file before, too. */
  steps: ({ create: NewFile } | { from: number; to: number } | { end: true })[];
  memory: ArrayBuffer;
}

/** To each task; what the system said, as far as it can be passed on between threads. */
export type Answer =
  | { differing: readonly Differing[] }
  | { failure: Pick<NodeJS.ErrnoException, "message" | "code" | "syscall" | "path"> };

/** Beside this file, which is TypeScript as long as it is not built. */
const program = new URL(`./file-writer${extname(import.meta.url)}`, import.meta.url);

/** Pieces that may wait for the thread, of 512 KiB as zstd gives them: it stands still where many small files come. */
const waitingTasks = 16;

export function fileThread(): FileThread {
  let thread: Worker | undefined;
  let failure: Error | undefined;
  let [lanes, posted, done] = [0, 0, 0];
  const waiting: (() => void)[] = [];
  const differing: Differing[] = [];
  const wake = () => {
    for (const resolve of waiting.splice(0)) resolve();
  };
  const fails = (error: Error) => {
    failure ??= error;
    wake();
  };
  const start = () => {
    const started = new Worker(program, {
      resourceLimits: { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 16, stackSizeMb: 1 },
    });
    started.on("message", (answer: Answer) => {
      done++;
      if ("failure" in answer) return fails(Object.assign(new Error(answer.failure.message), answer.failure));
      differing.push(...answer.differing);
      wake();
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
    finish: async () => {
      await until(0);
      return differing;
    },
    end: async () => {
      // A failure is met where files are written, or after the last by `finish`.
      await until(0).catch(() => undefined);
      await thread?.terminate();
    },
  };
}

function laneOf(lane: number, post: (task: Task) => Promise<void>): Lane {
  let steps: ({ create: NewFile } | { part: Uint8Array } | { end: true })[] = [];
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
      steps.push({ end: true });
      await flush(new Uint8Array(0), false);
    },
    create: (file) => void steps.push({ create: file }),
    write: (part) => void steps.push({ part }),
  };
}
