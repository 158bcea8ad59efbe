import { type ChildProcess, spawn } from "node:child_process";
import { chmod, chown, mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type RunAs, unprivilegedUser } from "../../src/postgres/run-as.ts";
import { eventually } from "./eventually.ts";

/** A program that serves in the foreground, in a folder of its own that it can write. */
export interface Daemon {
  readonly folder: string;
  readonly runAs: RunAs | undefined;
  readonly pid: number;
  log(): Promise<string>;
  stop(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again after `stop`. */
  start(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface DaemonOptions {
  readonly program: string;
  /** Its files, by their names, and the arguments that name them. */
  readonly files: (folder: string) => Readonly<Record<string, string>>;
  readonly args: (folder: string) => readonly string[];
  /** Throws while it does not answer yet. */
  readonly ready: (folder: string) => Promise<unknown>;
}

/** Starts a program as an unprivileged user, as PgBouncer and HAProxy want it, and waits until it answers. */
export async function startDaemon({ program, files, args, ready }: DaemonOptions): Promise<Daemon> {
  const runAs = await unprivilegedUser();
  const folder = await mkdtemp(join(tmpdir(), "pgkit-test-"));
  const own = async (path: string) => runAs !== undefined && (await chown(path, runAs.uid, runAs.gid));
  await own(folder);
  await chmod(folder, 0o755);
  for (const [name, text] of Object.entries(files(folder))) {
    await writeFile(join(folder, name), text, { mode: 0o640 });
    await own(join(folder, name));
  }
  let child: ChildProcess | undefined;
  const log = async () => await readFile(join(folder, "log"), "utf8");
  const stop = async (signal: NodeJS.Signals = "SIGKILL") => {
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child?.once("exit", resolve));
    child.kill(signal);
    await ended;
  };
  const start = async () => {
    const output = await open(join(folder, "log"), "a");
    const env = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" };
    child = spawn(program, args(folder), { cwd: folder, env, stdio: ["ignore", output.fd, output.fd], ...runAs });
    const failed = new Promise<never>((_, reject) => {
      child?.once("error", reject);
      child?.once("exit", async () => reject(new Error(`${program} ended: ${await log()}`)));
    });
    failed.catch(() => undefined);
    await output.close();
    await Promise.race([failed, eventually(() => ready(folder), 20_000)]);
  };
  const dispose = async () => {
    await stop();
    await rm(folder, { recursive: true, force: true });
  };
  await start().catch(async (error: unknown) => {
    await dispose();
    throw error;
  });
  return {
    ...{ folder, runAs, log, stop, start },
    get pid() {
      return child?.pid ?? 0;
    },
    [Symbol.asyncDispose]: dispose,
  };
}

/** A port that nobody listens on now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const address = server.address();
  await new Promise((closed) => server.close(closed));
  if (address === null || typeof address === "string") throw new Error("no port was given");
  return address.port;
}
