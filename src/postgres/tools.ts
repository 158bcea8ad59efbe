import { join } from "node:path";
import type { Writable } from "node:stream";
import { ExecaError, execa } from "execa";
import { type ErrorCode, PgkitError } from "../lib/errors.ts";
import type { Bytes } from "../lib/streams.ts";
import { addressOf, type Connection, libpqEnvironment, libpqVariables } from "./connection.ts";
import { feed } from "./feed.ts";
import type { Programs } from "./programs.ts";

/** Which programs to run against which database. */
export interface ToolTarget {
  programs: Programs;
  connection: Connection;
  database: string;
  applicationName?: string;
  /** Settings of the program's sessions. */
  settings?: Readonly<Record<string, string>>;
  signal?: AbortSignal | undefined;
}

/**
 * What a program writes to its output. The stream ends only after the program has exited 0; otherwise it fails, so that
 * a dump that died half-way cannot look like a whole one. Leaving the stream early ends the program.
 */
export async function* toolOutput(
  target: ToolTarget,
  program: string,
  args: readonly string[],
): AsyncGenerator<Buffer> {
  const subprocess = start(target, program, args, "ignore");
  try {
    yield* subprocess.readable({ binary: true, preserveNewlines: true });
  } catch (error) {
    throw toolError(error, target, program);
  } finally {
    subprocess.kill();
  }
}

/**
 * Feeds `input` to a program and waits for its exit; gives its output as text. A source that fails kills the program
 * before it could take the end of what it got for the end of the input. Fails too when the program exits 0 without having
 * read all, unless it may.
 */
export async function toolInput(
  target: ToolTarget,
  program: string,
  args: readonly string[],
  input: Bytes,
  { mayStopReading = false, encoding = "utf8" }: { mayStopReading?: boolean; encoding?: "utf8" | "latin1" } = {},
): Promise<string> {
  const subprocess = start(target, program, args, "pipe", encoding);
  const exit = settled(subprocess);
  const kill = () => void subprocess.kill("SIGKILL");
  // The source's own failure says more than the program's death by our hand.
  const tookAll = await feed(input, { stdin: subprocess.stdin as Writable, exit, kill, mayStopReading });
  const ended = await exit;
  if (ended instanceof Error) throw toolError(ended, target, program);
  if (!tookAll && !mayStopReading) throw stoppedReading(target, program);
  return ended;
}

/** Runs a program that reads no input; gives its output as text. */
export async function runTool(target: ToolTarget, program: string, args: readonly string[]): Promise<string> {
  const exit = await settled(start(target, program, args, "ignore"));
  if (exit instanceof Error) throw toolError(exit, target, program);
  return exit;
}

function start(
  target: ToolTarget,
  program: string,
  args: readonly string[],
  stdin: "ignore" | "pipe",
  encoding: "utf8" | "latin1" = "utf8",
) {
  const { programs, connection, database, applicationName = "pgkit", settings = {}, signal } = target;
  const environment = libpqEnvironment(connection, database, applicationName);
  const options = Object.entries(settings).map(([name, value]) => `-c ${name}=${value}`);
  if (options.length > 0) environment.PGOPTIONS = [environment.PGOPTIONS ?? "", ...options].join(" ").trim();
  return execa(join(programs.binDir, program), args, {
    // Our own environment's libpq variables, such as a PGSERVICE, must not lead a program to another server.
    env: { ...Object.fromEntries(libpqVariables.map((name) => [name, undefined])), ...environment, LC_ALL: "C" },
    stdin,
    stdout: "pipe",
    stderr: "pipe",
    stripFinalNewline: false,
    encoding,
    buffer: { stdout: stdin === "pipe" || program === "psql", stderr: true },
    maxBuffer: { stderr: 1024 * 1024, stdout: 64 * 1024 * 1024 },
    ...(signal === undefined ? {} : { cancelSignal: signal }),
  });
}

async function settled(subprocess: ReturnType<typeof start>): Promise<string | Error> {
  try {
    const { stdout } = await subprocess;
    return typeof stdout === "string" ? stdout : "";
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

function stoppedReading({ connection, database }: ToolTarget, program: string): PgkitError {
  const message = `${program} for database ${database} on ${addressOf(connection)} ended before it had read all its input`;
  return new PgkitError("tool-failed", message, {
    hint: "run it again; if it stays, pgkit verify tells whether the backup is whole",
  });
}

/** A program's failure, by its last words: execa's own message would repeat its arguments. */
export function toolError(error: unknown, { connection, database, signal }: ToolTarget, program: string): unknown {
  if (signal?.aborted === true) return signal.reason;
  if (!(error instanceof ExecaError)) return error;
  const words = lastWords(error);
  const code = codeFor(words);
  const how = error.signal === undefined ? `exit status ${error.exitCode}` : `killed by ${error.signal}`;
  const message = `${program} for database ${database} on ${addressOf(connection)} failed (${how}): ${words}`;
  return new PgkitError(code, message, { hint: hintFor(words, code) });
}

function lastWords(error: ExecaError): string {
  if (typeof error.stderr !== "string" || error.stderr.trim() === "") return error.originalMessage ?? "it said nothing";
  const lines = error.stderr.trim().split("\n");
  const errors = lines.filter((line) => /error|fatal|panic|detail|hint|checksum/i.test(line));
  return (errors.length > 0 ? errors : lines).slice(-4).join(" | ");
}

function codeFor(words: string): ErrorCode {
  const matches = (patterns: readonly RegExp[]) => patterns.some((pattern) => pattern.test(words));
  if (matches(deniedWords)) return "postgres-denied";
  if (/No space left on device|could not extend file/.test(words)) return "disk-full";
  if (matches(unreachableWords)) return "postgres-unreachable";
  return "tool-failed";
}

const deniedWords = [
  /password authentication failed|no pg_hba.conf entry|no password supplied/,
  /permission denied|must be (owner|superuser|member)/,
  /would be affected by row-level security/,
];

/** The program's own connection; what a statement says of another server, such as a foreign one, is not meant. */
const unreachableWords = [
  /: error: (could not connect|connection to server .* failed)/,
  /server closed the connection|the database system is|could not receive data from server/,
  /terminating connection/,
];

function hintFor(words: string, code: ErrorCode): string {
  const found = hintsByWords.find(([pattern]) => pattern.test(words));
  return found?.[1] ?? hints[code] ?? "see the server's log around this moment";
}

const hintsByWords: readonly [RegExp, string][] = [
  [/row-level security/, "give the user BYPASSRLS, or run it as a superuser: a backup must see every row"],
  [/for large object/, "run it as a superuser, or as the owner of the large objects"],
  [
    /lock timeout/,
    "a statement such as ALTER TABLE holds or awaits a lock on the table: run it again when that is done",
  ],
  [/invalid (LC_\w+ )?locale name/, "install the locale on the server's machine, restart the server, and run it again"],
  [/security label provider/, "load the provider of security labels on the server (shared_preload_libraries)"],
  [
    /extension ".*" is not available|could not access file/,
    "install the package of this extension or library on the server, then run it again",
  ],
];

const hints: Partial<Record<ErrorCode, string>> = {
  "postgres-denied": "grant the backup's user what is missing; pgkit check names it",
  "postgres-unreachable": "is the server up? run it again when it is",
  "disk-full": "free space on the server's disk, then run it again",
};
