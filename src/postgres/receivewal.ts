import { join } from "node:path";
import { execa } from "execa";
import { PgkitError } from "../lib/errors.ts";
import { addressOf, libpqEnvironment, libpqVariables } from "./connection.ts";
import { runTool, type ToolTarget, toolError } from "./tools.ts";

/** A pg_receivewal that runs. */
export interface ReceiveWal {
  /** How it ended, by itself or by `stop`; never rejects. */
  ended: Promise<ReceiveEnd>;
  /** Ends it cleanly and waits for that. */
  stop(): Promise<ReceiveEnd>;
}

/** `removed`: the server no longer has the segment that was asked for. */
export type ReceiveEnd =
  | { type: "stopped" }
  | { type: "removed"; segment: string; error: PgkitError }
  | { type: "failed"; error: unknown };

/** How long a connection that is dead without a word is waited for. */
const deadAfterMs = 30_000;
const stopWithinMs = 10_000;

/**
 * A process beside the program reads our end of a pipe: a line means that the program has ended, the end of file that we
 * have, however that came, and that the program must not live on and write where the next run of ours works.
 */
const endsWithUs = `exec 3<&0 </dev/null
( ( read -r _ <&3 || kill -KILL $$ ) >/dev/null 2>&1 & )
exec 3<&-; exec "$@"`;

/**
 * Runs pg_receivewal from the segment after the last one in `folder`, through every switch of the timeline, until it is
 * stopped or fails. It uses no slot: what the server may remove is not decided by what has reached this folder.
 */
export function startReceiveWal(target: ToolTarget, folder: string): ReceiveWal {
  const { programs, connection, database, applicationName = "pgkit wal stream" } = target;
  const tcp = `tcp_user_timeout=${deadAfterMs} keepalives_idle=10 keepalives_interval=5 keepalives_count=4`;
  const args = ["--directory", folder, "--no-loop", "--no-password", "--status-interval", "5", "--dbname", tcp];
  const child = execa("/bin/sh", ["-c", endsWithUs, "sh", join(programs.binDir, "pg_receivewal"), ...args], {
    env: {
      ...Object.fromEntries(libpqVariables.map((name) => [name, undefined])),
      PGCONNECT_TIMEOUT: String(deadAfterMs / 1000),
      ...libpqEnvironment(connection, database, applicationName),
      LC_ALL: "C",
    },
    stdin: "pipe",
    stdout: "ignore",
    stderr: "pipe",
    maxBuffer: 1024 * 1024,
    // Its own process group: a Ctrl-C meant for us would otherwise end it before we are ready for that.
    detached: true,
    cleanup: false,
  });
  // EPIPE: nobody reads any more, which is as good.
  child.stdin.on("error", () => undefined);
  child.nodeChildProcess.once("exit", () => child.stdin.end("ended\n"));
  let stopping = false;
  const ended = child.then(
    (): ReceiveEnd => (stopping ? { type: "stopped" } : { type: "failed", error: endedByItself(target) }),
    (error: unknown): ReceiveEnd => (stopping ? { type: "stopped" } : endOf(toolError(error, target, "pg_receivewal"))),
  );
  return {
    ended,
    stop: async () => {
      stopping = true;
      child.kill("SIGINT", undefined);
      const late = setTimeout(() => child.kill("SIGKILL"), stopWithinMs);
      const end = await ended;
      clearTimeout(late);
      return end;
    },
  };
}

/** A timeline's history file as the server has it. */
export async function timelineHistory(target: ToolTarget, timeline: number): Promise<string> {
  const args = ["-XAtq", "-F", "\u001f", "-v", "ON_ERROR_STOP=1", "-d", "replication=true"];
  const answer = await runTool(target, "psql", [...args, "-c", `TIMELINE_HISTORY ${timeline}`]);
  // psql ends its output with a line feed of its own.
  return answer.slice(answer.indexOf("\u001f") + 1).replace(/\n$/, "");
}

function endOf(error: unknown): ReceiveEnd {
  const said = error instanceof Error ? error.message : String(error);
  const segment = /requested WAL segment ([0-9A-F]{24}) has already been removed/.exec(said)?.[1];
  return segment === undefined ? { type: "failed", error } : { type: "removed", segment, error: error as PgkitError };
}

function endedByItself({ connection }: ToolTarget): PgkitError {
  const message = `pg_receivewal ended by itself, without an error of the server on ${addressOf(connection)}`;
  return new PgkitError("postgres-unreachable", message, { hint: "see the server's log around this moment" });
}
