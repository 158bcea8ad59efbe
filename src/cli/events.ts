import { errorCodes, PgkitError } from "../lib/errors.ts";
import type { ProgressEvent, Report } from "../lib/report.ts";

/** What `--progress events` ends with, in as many lines as it takes: logs of containers cut lines of 16 KiB. */
interface ResultPart {
  readonly type: "result";
  readonly part: number;
  readonly of: number;
  /** A piece of the text of `ResultDocument` as JSON. */
  readonly piece: string;
}

export interface ResultDocument {
  readonly json: unknown;
  readonly text: string;
}

interface ErrorEvent {
  readonly type: "error";
  readonly error: {
    readonly code: string;
    readonly message: string;
    readonly hint?: string;
    readonly stack?: string | undefined;
  };
}

const pieceLength = 4000;

/** The lines of a result; `text` is its document as JSON. */
export function resultParts(text: string): ResultPart[] {
  const of = Math.max(1, Math.ceil(text.length / pieceLength));
  return Array.from({ length: of }, (_, index) => {
    const piece = text.slice(index * pieceLength, (index + 1) * pieceLength);
    return { type: "result", part: index + 1, of, piece };
  });
}

/** Another pgkit, by what it writes with `--progress events`. */
export interface EventReader {
  /** Takes a line; `source` is the process that wrote it: another one begins anew. Progress and other lines are reported. */
  take(line: string, source: string): void;
  /** Ends the tasks that nothing more is to be heard of. */
  end(why: string): void;
  /** `undefined` where none came, or not the whole of it. */
  result(): ResultDocument | undefined;
  error(): PgkitError | undefined;
  /** The last line that was no event, such as of a shell or of Node. */
  lastWords(): string | undefined;
}

export function eventReader(report: Report): EventReader {
  const state: State = { source: undefined, tasks: new Set(), pieces: new Map(), error: undefined, words: undefined };
  const end = (message: string) => {
    for (const task of state.tasks) report({ type: "failed", task, message });
    state.tasks.clear();
  };
  return {
    end,
    take(line, source) {
      if (state.source !== undefined && state.source !== source) {
        end("its Pod has ended");
        state.pieces.clear();
        state.error = undefined;
      }
      state.source = source;
      takeEvent(state, line, report);
    },
    result: () => {
      const [first] = state.pieces.values();
      if (first === undefined || state.pieces.size < first.of) return undefined;
      const inOrder = [...state.pieces.values()].sort((a, b) => a.part - b.part);
      return JSON.parse(inOrder.map(({ piece }) => piece).join(""));
    },
    error: () => state.error,
    lastWords: () => state.words,
  };
}

interface State {
  source: string | undefined;
  tasks: Set<string>;
  pieces: Map<number, ResultPart>;
  error: PgkitError | undefined;
  words: string | undefined;
}

function takeEvent(state: State, line: string, report: Report): void {
  const event = eventOf(line);
  if (event === undefined) {
    if (line.trim() === "") return;
    // A hint says less than the message before it.
    if (!line.startsWith("hint: ")) state.words = line;
    report({ type: "note", message: line });
  } else if (event.type === "result") {
    state.pieces.set(event.part, event);
  } else if (event.type === "error") {
    state.error = errorOf(event);
  } else {
    if (event.type === "start") state.tasks.add(event.task);
    if (event.type === "done" || event.type === "failed") state.tasks.delete(event.task);
    report(event);
  }
}

const types = new Set(["start", "progress", "done", "failed", "note", "warning", "result", "error"]);

function eventOf(line: string): ProgressEvent | ResultPart | ErrorEvent | undefined {
  if (!line.startsWith("{")) return undefined;
  try {
    const event: unknown = JSON.parse(line);
    if (typeof event !== "object" || event === null || !("type" in event)) return undefined;
    return types.has(String(event.type)) ? (event as ProgressEvent) : undefined;
  } catch {
    // A line that begins like one: it is shown as it is.
    return undefined;
  }
}

function errorOf({ error: { code, message, hint, stack } }: ErrorEvent): PgkitError {
  const known = Object.keys(errorCodes).find((each) => each === code) as keyof typeof errorCodes | undefined;
  const error = new PgkitError(known ?? "bug", message, hint === undefined || hint === "" ? {} : { hint });
  // A bug shows where it is, which is there.
  if (stack !== undefined) error.stack = stack;
  return error;
}
