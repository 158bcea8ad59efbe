import type { Writable } from "node:stream";
import type { Bytes } from "../lib/streams.ts";

export interface Feeding {
  stdin: Writable;
  /** How the program ended. */
  exit: Promise<string | Error>;
  kill: () => void;
  /** It is enough when the program ends well, whatever is left of the source. */
  mayStopReading: boolean;
}

/**
 * Writes `source` to a program's input. Gives false when the program ended before it had taken all of it. A program that
 * ends well after the last byte, and does not wait for the end of file, has taken all: pg_restore does so. A source that
 * fails kills the program, before it could take the end of what it got for the end of the input, and then fails this.
 */
export async function feed(source: Bytes, feeding: Feeding): Promise<boolean> {
  const { stdin, exit, kill, mayStopReading } = feeding;
  // Told by each write's own callback.
  stdin.on("error", () => undefined);
  const closing = watchClose(stdin);
  const pieces = source[Symbol.asyncIterator]();
  let written = Promise.resolve(true);
  for (;;) {
    const next = pieces.next();
    next.catch(kill);
    if ((await closing.before(next)) && (mayStopReading || (await exit) instanceof Error)) return stop(pieces);
    const piece = await next;
    if (piece.done === true) break;
    const { room, done } = write(stdin, piece.value);
    written = done;
    if (!room && !(await written)) return stop(pieces);
  }
  stdin.end();
  return written;
}

/**
 * Tells whether the stream is closed before a promise settles. No Promise.race over one promise for all: that would keep
 * every piece in memory until the stream is closed.
 */
function watchClose(stdin: Writable): { before(next: Promise<unknown>): Promise<boolean> } {
  let onClose: () => void = () => undefined;
  stdin.once("close", () => onClose());
  return {
    before: (next) =>
      new Promise((resolve) => {
        onClose = () => resolve(true);
        if (stdin.closed) return resolve(true);
        const settled = () => resolve(false);
        next.then(settled, settled);
      }),
  };
}

/** Not awaited: a source that waits for something cannot be stopped before it has it. */
function stop(pieces: AsyncIterator<Uint8Array>): false {
  pieces.return?.().catch(() => undefined);
  return false;
}

/** `done` is false when the program no longer takes anything. */
function write(stdin: Writable, bytes: Uint8Array): { room: boolean; done: Promise<boolean> } {
  if (stdin.destroyed) return { room: false, done: Promise.resolve(bytes.length === 0) };
  let room = true;
  const done = new Promise<boolean>((resolve) => {
    room = stdin.write(bytes, (error) => resolve(error === null || error === undefined));
  });
  return { room, done };
}
