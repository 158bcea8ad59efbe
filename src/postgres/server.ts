import { readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { execa } from "execa";
import { PgkitError } from "../lib/errors.ts";
import { privateFolder, processOptions, type RunAs, refuseRoot } from "./run-as.ts";

export interface StartServerOptions {
  /** The folder of the programs of the server's major. */
  binDir: string;
  dataDir: string;
  runAs?: RunAs | undefined;
  /** Settings of this start alone, over those of the data directory. Visible to other users: no secrets. */
  settings?: Record<string, string>;
  /** Also listens on 127.0.0.1: on this port, or a free one. Otherwise only a socket in a private folder answers. */
  tcp?: boolean | number;
  /** Where the socket's folder is made; TMPDIR when left out, or where the path would be too long for a socket. */
  socketParent?: string;
  /** `outlives`: the server stays when this process ends. By default it stops with it, even after SIGKILL. */
  lifetime?: "with-us" | "outlives";
  /** How long until it accepts connections; a recovery may need hours. By default 60,000. */
  readyWithinMs?: number;
  /** A file in a folder of `runAs` that its log goes to, and stays in; one that is removed at the end when left out. */
  log?: string;
  signal?: AbortSignal | undefined;
}

export type StopMode = "smart" | "fast" | "immediate";

export interface RunningServer {
  /** Of the socket's name, and on 127.0.0.1 where asked for. */
  port: number;
  /** The private folder (0700) of the socket: what libpq takes as host. Removed once the server has ended. */
  socketDir: string;
  /** Without a user and a password; only where 127.0.0.1 was asked for. */
  url?: string;
  pid: number;
  /** Resolves when the server has ended, by `stop` or by itself, to the end of its log; never rejects. */
  ended: Promise<string>;
  /** Stops it and waits for its end; `fast` when left out. One that has ended already is not an error. */
  stop(mode?: StopMode): Promise<void>;
}

const stopSignals = { smart: "SIGTERM", fast: "SIGINT", immediate: "SIGQUIT" } as const;

/** Becomes the program given, with its output in the file named first. */
const intoLog = 'umask 077; log=$1; shift; exec "$@" >>"$log" 2>&1';

/**
 * The same, with a process beside it that reads our end of a pipe: a line means that the program has ended, the end of
 * file that we have, however that came, and that the server shall stop (fast: as after SIGINT). The second shell makes
 * that process a child of init, since the server counts its own.
 */
const stopsWithUs = `exec 3<&0 </dev/null
( ( read -r _ <&3 || kill -INT $$ ) >/dev/null 2>&1 & )
exec 3<&-; ${intoLog}`;

/**
 * Starts a server on a data directory and waits until it accepts connections (a standby: read-only ones). The caller
 * stops it. Fails with `refused-overwrite` when another server runs there, with `tool-failed` and the end of the
 * server's log when it does not come up in time.
 */
export async function startServer(options: StartServerOptions): Promise<RunningServer> {
  refuseRoot(options.runAs);
  for (let attempt = 1; ; attempt++) {
    try {
      return await launch(options);
    } catch (error) {
      // Another process may have taken the free port before the server did.
      if (
        attempt === 3 ||
        options.tcp !== true ||
        !(error instanceof Error && error.message.includes("Address already in use"))
      )
        throw error;
    }
  }
}

async function launch(options: StartServerOptions): Promise<RunningServer> {
  const socketDir = await privateFolder(options.runAs, socketParent(options));
  const logFile = options.log ?? join(socketDir, "log");
  const port = await portFor(options.tcp ?? false);
  const child = spawn(options, [
    logFile,
    join(options.binDir, "postgres"),
    ...serverArguments(options, socketDir, port),
  ]);
  const ended = child.then(async (result) => {
    const log = await endOf(logFile);
    await rm(socketDir, { recursive: true, force: true });
    return log || wordless(options, logFile, result) || "";
  });
  const { pid } = child;
  if (pid === undefined) throw notStarted(options.dataDir, await ended);
  await waitUntilReady(options, pid, ended);
  return {
    port,
    socketDir,
    ...(options.tcp && { url: `postgresql://127.0.0.1:${port}/postgres` }),
    pid,
    ended,
    stop: async (mode = "fast") => {
      child.kill(stopSignals[mode]);
      await ended;
    },
  };
}

/** It ended before it could say why: the shell's 2 is that its log could not be opened. */
function wordless(
  { runAs }: StartServerOptions,
  logFile: string,
  result: { exitCode?: number | undefined; message?: string | undefined },
) {
  if (runAs === undefined || result.exitCode !== 2) return result.message;
  return `the user of id ${runAs.uid}, who is to run it, cannot write ${logFile}: let TMPDIR name a folder that this user may pass through`;
}

/** The folder's own name and the socket's in it take 40 of the 107 bytes that a socket's path may have. */
function socketParent({ socketParent: parent }: StartServerOptions): string | undefined {
  return parent === undefined || Buffer.byteLength(parent) > 67 ? undefined : parent;
}

function spawn(options: StartServerOptions, args: string[]) {
  const outlives = options.lifetime === "outlives";
  const child = execa("/bin/sh", ["-c", outlives ? intoLog : stopsWithUs, "sh", ...args], {
    ...processOptions(options.runAs),
    stdio: [outlives ? "ignore" : "pipe", "ignore", "ignore"],
    // Its own process group: a Ctrl-C meant for us would otherwise stop it while it is still used.
    detached: true,
    cleanup: false,
    reject: false,
  });
  if (outlives) child.nodeChildProcess.unref();
  // EPIPE: nobody reads any more, which is as good.
  child.stdin?.on("error", () => undefined);
  child.nodeChildProcess.once("exit", () => child.stdin?.end("ended\n"));
  return child;
}

function serverArguments(options: StartServerOptions, socketDir: string, port: number): string[] {
  const settings = {
    ...options.settings,
    port: String(port),
    listen_addresses: options.tcp ? "127.0.0.1" : "",
    unix_socket_directories: socketDir,
    // A data directory that was restored may send its log elsewhere; here is where it is looked for.
    logging_collector: "off",
    log_destination: "stderr",
    lc_messages: "C",
  };
  return ["-D", options.dataDir, ...Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`])];
}

async function waitUntilReady(options: StartServerOptions, pid: number, ended: Promise<string>): Promise<void> {
  const deadline = AbortSignal.timeout(options.readyWithinMs ?? 60_000);
  let log: string | undefined;
  ended.then((text) => {
    log = text;
  });
  while (!(await isReady(options.dataDir, pid))) {
    if (log !== undefined) throw notStarted(options.dataDir, log);
    if (deadline.aborted || options.signal?.aborted) {
      process.kill(pid, "SIGQUIT");
      const text = await ended;
      if (!deadline.aborted)
        throw new PgkitError("cancelled", `starting the server in ${options.dataDir} was cancelled`);
      throw notStarted(options.dataDir, text, `it was not ready within ${options.readyWithinMs ?? 60_000} ms: `);
    }
    await delay(20);
  }
}

/**
 * Whether the server of this process accepts connections, by line 8 of postmaster.pid, which is what pg_ctl waits for;
 * a file that an earlier server left behind has another process in line 1.
 */
async function isReady(dataDir: string, pid: number): Promise<boolean> {
  let text: string;
  try {
    text = await readFile(join(dataDir, "postmaster.pid"), "utf8");
  } catch (error) {
    if (hasCode(error, "ENOENT")) return false;
    throw error;
  }
  const lines = text.split("\n");
  return lines[0] === String(pid) && ["ready", "standby"].includes(lines[7]?.trim() ?? "");
}

function notStarted(dataDir: string, log: string, late = ""): PgkitError {
  if (log.includes('lock file "postmaster.pid" already exists')) {
    return new PgkitError("refused-overwrite", `a server is running on ${dataDir}: ${log}`, { hint: "stop it first" });
  }
  return new PgkitError("tool-failed", `the server in ${dataDir} did not start: ${late}${log}`);
}

/** The last lines of a log, which is small; nothing when the program never came to write one. */
async function endOf(logFile: string): Promise<string> {
  const text = await readFile(logFile, "utf8").catch((error) => {
    if (hasCode(error, "ENOENT")) return "";
    throw error;
  });
  return text.trim().split("\n").slice(-10).join("\n");
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

async function portFor(tcp: boolean | number): Promise<number> {
  if (tcp === false) return 5432;
  return tcp === true ? await freePort() : tcp;
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("a TCP server has no port");
  return address.port;
}
