import { createHash } from "node:crypto";
import { readFile, readlink } from "node:fs/promises";
import { hostname } from "node:os";

/** Who made a temp file or a claim; stands in its name, so that a process killed at any moment leaves a readable trace. */
export interface Owner {
  host: string;
  pid: number;
  /** When that process started, as its system counts, so that a process id used again is not taken for it. */
  started: string;
}

const form = /^([0-9a-f]{12})-(\d+)-(\d+)$/;

/** `<host>-<pid>-<started>`. */
export function formatOwner(owner: Owner): string {
  return `${owner.host}-${owner.pid}-${owner.started}`;
}

/** undefined when `text` was not made by `formatOwner`. */
export function parseOwner(text: string): Owner | undefined {
  const [, host, pid, started] = form.exec(text) ?? [];
  return host === undefined || pid === undefined || started === undefined
    ? undefined
    : { host, pid: Number(pid), started };
}

/** This process. Containers that share a host name differ in their process-id namespace, and reboots in the boot id. */
export async function thisOwner(): Promise<Owner> {
  const boot = await unlessAbsent(readFile("/proc/sys/kernel/random/boot_id", "utf8"));
  const pids = await unlessAbsent(readlink("/proc/self/ns/pid"));
  const host = createHash("sha256").update(`${hostname()}\n${boot}\n${pids}`).digest("hex").slice(0, 12);
  return { host, pid: process.pid, started: (await startOf(process.pid)) ?? "0" };
}

/** `unknown` for a process of another machine or container, which cannot be asked from here. */
export async function stateOf(owner: Owner, self: Owner): Promise<"alive" | "dead" | "unknown"> {
  if (owner.host !== self.host) return "unknown";
  if (owner.pid === self.pid) return owner.started === self.started ? "alive" : "dead";
  if (self.started !== "0") return (await startOf(owner.pid)) === owner.started ? "alive" : "dead";
  return isRunning(owner.pid) ? "alive" : "dead";
}

/** Field 22 of /proc/PID/stat (proc_pid_stat(5)); the name in field 2 may hold blanks, so count from its `)`. */
async function startOf(pid: number): Promise<string | undefined> {
  const stat = await unlessAbsent(readFile(`/proc/${pid}/stat`, "utf8")).catch((error: unknown) => {
    // The process ended between the opening of its file and the reading.
    if (codeOf(error) === "ESRCH") return undefined;
    throw error;
  });
  return stat?.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // EPERM: it runs, as another user.
    return codeOf(error) !== undefined && codeOf(error) !== "ESRCH";
  }
}

async function unlessAbsent<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes(codeOf(error) ?? "")) return undefined;
    throw error;
  }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && "code" in error ? String(error.code) : undefined;
}
