import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { PgkitError } from "../lib/errors.ts";
import { systemCode } from "./switch-errors.ts";

const timeoutMs = 5000;

/**
 * One command of HAProxy's runtime API, on a connection of its own, and the answer. `socket` is the path of the admin
 * socket, or `host:port`. Fails with `switch-unreachable`, or `switch-denied` where the socket is not of the level admin.
 */
export async function haproxyCommand(socket: string, command: string, signal: AbortSignal): Promise<string> {
  signal.throwIfAborted();
  const [, host, port] = /^\[?([^/[\]]+)\]?:(\d+)$/.exec(socket) ?? [];
  const stream = host === undefined ? connect(socket) : connect(Number(port), host);
  const cut = () => stream.destroy(signal.reason);
  signal.addEventListener("abort", cut);
  stream.setTimeout(timeoutMs, () => stream.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)));
  try {
    stream.end(`${command}\n`);
    const answer = (await text(stream)).trim();
    if (/^permission denied/i.test(answer)) throw notAdmin(socket, command);
    return answer;
  } catch (cause) {
    signal.throwIfAborted();
    throw socketError(cause, socket);
  } finally {
    signal.removeEventListener("abort", cut);
    stream.destroy();
  }
}

function socketError(cause: unknown, socket: string): unknown {
  if (cause instanceof PgkitError) return cause;
  const code = systemCode(cause);
  if (code === "EACCES" || code === "EPERM") {
    return new PgkitError("switch-denied", `HAProxy's admin socket ${socket} cannot be opened: no right to write it`, {
      hint: "run pgkit as the socket's user or group, or set user, group and mode on the stats socket line",
      cause,
    });
  }
  return new PgkitError("switch-unreachable", `HAProxy's admin socket ${socket} does not answer: ${reasonOf(cause)}`, {
    hint: "is HAProxy running, and does its global section have: stats socket PATH mode 600 level admin?",
    cause,
  });
}

function reasonOf(cause: unknown): string {
  if (cause instanceof AggregateError) return cause.errors.map(String).join("; ");
  return cause instanceof Error ? cause.message : String(cause);
}

function notAdmin(socket: string, command: string): PgkitError {
  return new PgkitError("switch-denied", `HAProxy's socket ${socket} refused: ${command}`, {
    hint: "give its stats socket line: level admin",
  });
}
