import type { Readable, Writable } from "node:stream";
import { isPgkitError, type PgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import type { SecretVault } from "../lib/secret.ts";
import { type Clock, rfc3339 } from "../lib/time.ts";
import { type ResultDocument, resultParts } from "./events.ts";
import { type Progress, type ProgressForm, progressOf } from "./progress.ts";
import { harmless } from "./text.ts";

/** The three streams of the process, or those of a test. */
export interface Streams {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable & { readonly isTTY?: boolean; readonly columns?: number };
}

/** What a command prints its result with; nothing else writes to stdout. */
export interface Output {
  /** The result: `text` for people, or with --json `json` as the one document. Dates become RFC 3339, bigints numbers or text. */
  result(result: { readonly json: unknown; readonly text: string | (() => string) }): void;
  /** Text that is the result whatever the form, such as a completion script. */
  raw(text: string): void;
  /** True with --json. */
  readonly json: boolean;
}

export interface Renderer {
  readonly out: Output;
  readonly report: Report;
  /** Draws the end of all progress; nothing is reported after it. */
  finish(): void;
  /** Message, hint and with --verbose causes, or the error document. A bug shows its stack. */
  error(error: unknown): void;
}

export interface RenderOptions {
  readonly streams: Streams;
  readonly vault: SecretVault;
  readonly clock: Clock;
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  readonly progress: "auto" | "bar" | "plain" | "json" | "events";
}

/** The only place that writes to stdout and stderr. Every text is scrubbed of secrets (on stdout of those alone that cannot be a name), and of control characters where it is not JSON. */
export async function createRenderer(options: RenderOptions): Promise<Renderer> {
  const { streams, vault, clock, json, verbose } = options;
  const form = progressForm(options);
  const isEvents = form === "events";
  const write = (stream: Writable, text: string) => {
    if (!closed.has(stream)) stream.write(text.endsWith("\n") ? text : `${text}\n`);
  };
  const tell = (text: string) => write(streams.stderr, vault.scrub(text));
  const give = (text: string) => write(streams.stdout, vault.scrubResult(text));
  // As events all goes one way, so that it stays in its order.
  const line = (value: unknown) =>
    write(isEvents ? streams.stdout : streams.stderr, vault.scrub(JSON.stringify(plain(value))));
  const progress: Progress = await progressOf(form, {
    stderr: streams.stderr,
    line: (text) => tell(harmless(text)),
    scrub: (text) => harmless(vault.scrub(text)),
    event: (event) => line({ ...event, time: rfc3339(clock.now()) }),
    monotonicMs: clock.monotonicMs,
  });
  return {
    out: {
      json,
      result: (result) => {
        progress.finish();
        const text = () => harmless(typeof result.text === "string" ? result.text : result.text());
        if (isEvents) giveEvents(give, vault, { json: plain(result.json), text: text() });
        else give(json ? JSON.stringify(plain(result.json), undefined, 2) : text());
      },
      raw: give,
    },
    report: progress.report,
    finish: progress.finish,
    error: (error) => {
      progress.finish();
      if (isEvents) line({ type: "error", ...errorDocument(error, verbose) });
      else if (json || form === "json") line(errorDocument(error, verbose));
      else tell(harmless(errorText(error, verbose)));
    },
  };
}

/** Scrubbed as a whole, before it is cut into pieces. */
function giveEvents(give: (text: string) => void, vault: SecretVault, document: ResultDocument): void {
  for (const part of resultParts(vault.scrubResult(JSON.stringify(document)))) give(JSON.stringify(part));
}

const closed = new WeakSet<Writable>();

/** A reader that went away (`pgkit list | head`) is no error: what is written after it is dropped. Other errors are thrown. */
export function endQuietlyWhenClosed(streams: Streams): void {
  for (const stream of [streams.stdout, streams.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code !== "EPIPE" && error.code !== "ERR_STREAM_DESTROYED") throw error;
      closed.add(stream);
    });
  }
}

function progressForm({ progress, quiet, json, streams }: RenderOptions): ProgressForm {
  if (quiet) return "none";
  if (progress !== "auto") return progress;
  if (json) return "warnings";
  return streams.stderr.isTTY === true ? "bar" : "plain";
}

function errorText(error: unknown, verbose: boolean): string {
  if (!isPgkitError(error) || error.code === "bug") {
    const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return `pgkit: this is a bug in pgkit: ${stack}\nhint: please report it with the command line and these lines`;
  }
  const lines = [`pgkit: ${error.message}`];
  if (error.hint !== undefined) lines.push(`hint: ${error.hint}`);
  if (verbose) lines.push(...causesOf(error).map((cause) => `cause: ${cause}`));
  return lines.join("\n");
}

function errorDocument(error: unknown, verbose: boolean): { error: object } {
  if (!isPgkitError(error) || error.code === "bug") {
    const message = error instanceof Error ? error.message : String(error);
    const stack = error instanceof Error ? error.stack : undefined;
    return { error: { code: "bug", message, hint: "please report it with the command line and the stack", stack } };
  }
  const { code, message, hint } = error;
  return { error: { code, message, hint: hint ?? "", ...(verbose ? { causes: causesOf(error) } : {}) } };
}

function causesOf(error: PgkitError): string[] {
  const causes: string[] = [];
  for (let cause = error.cause; cause !== undefined && causes.length < 10; ) {
    causes.push(cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause));
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return causes;
}

/** The value as JSON has it: dates in RFC 3339 to the second, bigints as numbers where they fit, else as text. */
function plain(value: unknown): unknown {
  if (value instanceof Date) return rfc3339(value);
  if (typeof value === "bigint") return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  const entries = value instanceof Map ? [...value.entries()] : Object.entries(value);
  return Object.fromEntries(entries.map(([key, inner]) => [String(key), plain(inner)]));
}
