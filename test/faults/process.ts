import { type ChildProcess, execFile, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { eventually } from "../support/eventually.ts";
import { newFolder } from "./support.ts";

const project = join(import.meta.dirname, "..", "..");

/** Builds pgkit into a folder of its own; gives the path of its program. */
export async function buildProgram(): Promise<string> {
  const folder = await newFolder();
  await promisify(execFile)(process.execPath, [join(project, "scripts", "build.ts"), join(folder, "dist")]);
  await mkdir(join(folder, "bin"));
  await copyFile(join(project, "bin", "pgkit.js"), join(folder, "bin", "pgkit.js"));
  await writeFile(join(folder, "package.json"), '{ "type": "module" }');
  return join(folder, "bin", "pgkit.js");
}

export interface Ended {
  /** As a shell would tell it: 130 and 137 for a process that died of SIGINT and SIGKILL itself. */
  status: number;
  stdout: string;
  stderr: string;
}

export interface Started {
  child: ChildProcess;
  ended: Promise<Ended>;
  /** Its own folder for temporary files. */
  tmp: string;
  /** Processes that it has started and that still run, by their command lines. */
  left(): Promise<string[]>;
}

export interface StartOptions {
  files: Record<string, string>;
  env?: Record<string, string>;
  /** What runs the program: `[program, ...arguments]` in front of node. */
  under?: readonly string[];
}

const statusOf: Partial<Record<NodeJS.Signals, number>> = { SIGINT: 130, SIGKILL: 137, SIGTERM: 143 };

/** Starts the program with nothing of this process's environment but the PATH, in a folder of its own. */
export async function startProgram(program: string, args: readonly string[], options: StartOptions): Promise<Started> {
  const folder = await newFolder();
  const tmp = join(folder, "tmp");
  await mkdir(tmp);
  for (const [name, text] of Object.entries(options.files)) await writeFile(join(folder, name), text, { mode: 0o600 });
  const mark = randomUUID();
  const env = {
    ...{ PATH: process.env["PATH"], HOME: folder, TMPDIR: tmp, STARTED_BY: mark },
    // Shared, as compiling anew would take longer than what is to be interrupted.
    NODE_COMPILE_CACHE: join(project, "node_modules", ".cache", "compiled"),
    ...options.env,
  };
  const [first = "", ...rest] = [...(options.under ?? []), process.execPath, program, ...args];
  const child = spawn(first, rest, { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (chunk) => (stdout += chunk));
  child.stderr.on("data", (chunk) => (stderr += chunk));
  const ended = once(child, "close").then((ends) => {
    const [status, signal] = ends as [number | null, NodeJS.Signals | null];
    return { status: status ?? statusOf[signal ?? "SIGKILL"] ?? -1, stdout, stderr };
  });
  return { child, ended, tmp, left: () => runningWith(`STARTED_BY=${mark}`) };
}

/** Runs the program to its end. */
export async function runProgram(program: string, args: readonly string[], options: StartOptions): Promise<Ended> {
  return await (await startProgram(program, args, options)).ended;
}

/** Waits until nothing that a program has started runs any more. */
export async function untilAllEnded(started: Started, withinMs = 10_000): Promise<void> {
  await eventually(async () => {
    const left = await started.left();
    if (left.length > 0) throw new Error(`still running: ${left.join("; ")}`);
  }, withinMs);
}

async function runningWith(entry: string): Promise<string[]> {
  const found: string[] = [];
  for (const pid of await readdir("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    const environment = await readProc(pid, "environ");
    if (environment.split("\0").includes(entry)) found.push((await readProc(pid, "cmdline")).replaceAll("\0", " "));
  }
  return found.filter((line) => line !== "");
}

/** Empty for a process that ended meanwhile. */
async function readProc(pid: string, file: string): Promise<string> {
  try {
    return await readFile(join("/proc", pid, file), "utf8");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT" || code === "ESRCH" || code === "EACCES") return "";
    throw error;
  }
}
