import { ExecaError, execa } from "execa";
import { PgkitError } from "../lib/errors.ts";
import { formatDuration } from "../lib/parse.ts";
import { spellAddress, systemCode } from "./switch-errors.ts";
import type { Endpoint, EndpointAddress, Switcher } from "./switcher.ts";

export interface CommandDeps {
  /** Where it points until this process has pointed it elsewhere: a program is not asked. */
  readonly assumed: EndpointAddress;
  readonly timeoutMs?: number | undefined;
}

/** What the program's exit status says where it is not 0: it points at neither of the two, and was left as it was. */
const conflictStatus = 3;

/**
 * A program of the user's that points the application elsewhere. It is given `{ "action": "point", "from", "to" }` as JSON
 * on stdin, each with `host`, `port` and `database`; exit 0 is done, 3 is that it points at neither. It may be given the
 * same again. It is never asked where it points: docs/decisions/0035-a-switch-command-is-not-asked.md.
 */
export function commandSwitcher(command: readonly string[], { assumed, timeoutMs = 60_000 }: CommandDeps): Switcher {
  const [program = "", ...args] = command;
  const where = `the switch command ${program}`;
  let pointed: EndpointAddress | undefined;
  return {
    where,
    kind: "command",
    current: async (signal) => {
      signal.throwIfAborted();
      return pointed ?? assumed;
    },
    // Always called, also where it should be there already: what is known may be what a killed run has not told.
    point: async (from, to, signal) => {
      signal.throwIfAborted();
      const input = JSON.stringify({ action: "point", from: plain(from), to: plain(to) });
      const late = AbortSignal.timeout(timeoutMs);
      await call(program, args, input, AbortSignal.any([signal, late])).catch((error: unknown) => {
        signal.throwIfAborted();
        throw late.aborted ? tookTooLong(where, timeoutMs) : commandError(error, where, from, to);
      });
      pointed = { host: to.host, port: to.port, database: to.database };
    },
    plan: async (to) => ({
      does: [`runs ${where}, to point at ${spellAddress(to)}`],
      refusals:
        program === "" ? [{ message: "the switch command is empty", hint: "name a program in switch.command" }] : [],
      warnings: [],
    }),
  };
}

/** With the password where it is to be changed too; stdin is seen by nobody else. */
function plain({ password, ...address }: Endpoint): Record<string, unknown> {
  return { ...address, ...(password === undefined ? {} : { password: password.reveal() }) };
}

/** Ended with all that it has started, when the time is up or the signal says so: a leftover must not switch later. */
async function call(program: string, args: readonly string[], input: string, stop: AbortSignal): Promise<void> {
  const child = execa(program, args, {
    input,
    stdout: "ignore",
    stderr: "pipe",
    maxBuffer: { stderr: 1024 * 1024 },
    detached: true,
  });
  const { pid } = child;
  const end = () => pid !== undefined && endGroup(pid);
  stop.addEventListener("abort", end);
  try {
    await child;
  } finally {
    stop.removeEventListener("abort", end);
  }
}

function endGroup(leader: number): void {
  try {
    process.kill(-leader, "SIGKILL");
  } catch (error) {
    // It has ended by itself just now.
    if (systemCode(error) !== "ESRCH") throw error;
  }
}

function commandError(error: unknown, where: string, from: EndpointAddress, to: EndpointAddress): unknown {
  if (!(error instanceof ExecaError)) return error;
  const said =
    String(error.stderr ?? "")
      .trim()
      .split("\n")
      .at(-1) || "it said nothing on stderr";
  if (error.exitCode === conflictStatus) {
    return new PgkitError(
      "switch-conflict",
      `${where} says that it points neither at ${spellAddress(from)} nor at ${spellAddress(to)}: ${said}`,
      { hint: `put it back to ${spellAddress(from)}, then pgkit move resume, or pgkit move rollback` },
    );
  }
  // Node's own words for a program that cannot be started do not hold its arguments.
  const code = error.code ?? "";
  if (["ENOENT", "EACCES", "EPERM", "ENOEXEC"].includes(code)) {
    return new PgkitError(
      code === "EACCES" || code === "EPERM" ? "switch-denied" : "switch-failed",
      `${where} cannot be started (${code})`,
      {
        hint: "is the path right, does the file begin with #!, and may it be executed?",
      },
    );
  }
  const how = error.signal === undefined ? `exit status ${error.exitCode}` : `killed by ${error.signal}`;
  return new PgkitError("switch-failed", `${where} failed (${how}): ${said}`, {
    hint: "exit status 0 means that it is done; what it is given is in docs/reference.md",
  });
}

function tookTooLong(where: string, timeoutMs: number): PgkitError {
  return new PgkitError("switch-failed", `${where} was not done within ${formatDuration(timeoutMs)}, and was ended`, {
    hint: "the application waits meanwhile: let it come back sooner",
  });
}
