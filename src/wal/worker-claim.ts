import { randomUUID } from "node:crypto";
import { readdir, stat, unlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { formatOwner, type Owner, parseOwner, stateOf, thisOwner } from "../lib/owner.ts";
import type { Clock } from "../lib/time.ts";
import { unlessAbsent } from "../store/file/errors.ts";

/** `push` stores what the server archives, `fetch` fetches ahead of its recovery. */
export type WorkerRole = "push" | "fetch";

/** A worker that says nothing for so long has been stopped, or is of another container that is gone. */
const silentMs = 60_000;
const beatMs = 2_000;
const attempts = 8;

export interface WorkerClaim {
  /** False when another has taken our place, as we seemed dead or work by former settings: end then. */
  holds(): Promise<boolean>;
  release(): Promise<void>;
}

/**
 * The right to be the one worker of a spool, `undefined` where another is. As the folder store's claims: each writes a
 * note under a name of its own and only then looks, so that two never both see themselves alone; a note says whose it is,
 * so that what a killed worker leaves stops nobody; and a worker that is stopped is passed over when its note has not
 * been touched for a minute. `mark` says what the worker was started with: see `retireOthers`.
 */
export async function claimWorker(
  folder: string,
  role: WorkerRole,
  clock: Clock,
  mark = "",
): Promise<WorkerClaim | undefined> {
  const self = await thisOwner();
  for (let attempt = 1; attempt <= attempts; attempt++) {
    const path = join(folder, `${role}.worker.${formatOwner(self)}.${randomUUID()}.${mark}`);
    await writeFile(path, "", { flag: "wx", mode: 0o600 });
    if (!(await othersLive(folder, role, path, self, clock))) return keep(path, clock);
    await unlink(path);
    await clock.delay(clock.random() * 50);
    if (await othersLive(folder, role, undefined, self, clock)) return undefined;
  }
  return undefined;
}

/** Whether a worker of this role is at work. */
export async function workerLives(folder: string, role: WorkerRole, clock: Clock): Promise<boolean> {
  return await othersLive(folder, role, undefined, await thisOwner(), clock);
}

/** Has those workers end that were started with something else; true where there were any. */
export async function retireOthers(folder: string, role: WorkerRole, mark: string): Promise<boolean> {
  let found = false;
  for (const name of await readdir(folder)) {
    if (!name.startsWith(`${role}.worker.`) || (name.split(".")[4] ?? "") === mark) continue;
    await unlessAbsent(unlink(join(folder, name)));
    found = true;
  }
  return found;
}

async function othersLive(
  folder: string,
  role: WorkerRole,
  ours: string | undefined,
  self: Owner,
  clock: Clock,
): Promise<boolean> {
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    if (!name.startsWith(`${role}.worker.`) || path === ours) continue;
    if (await lives(path, name, self, clock)) return true;
    await unlessAbsent(unlink(path));
  }
  return false;
}

async function lives(path: string, name: string, self: Owner, clock: Clock): Promise<boolean> {
  const owner = parseOwner(name.split(".")[2] ?? "");
  if (owner === undefined || (await stateOf(owner, self)) === "dead") return false;
  const note = await unlessAbsent(stat(path));
  return note !== undefined && Math.abs(clock.now().getTime() - note.mtimeMs) < silentMs;
}

function keep(path: string, clock: Clock): WorkerClaim {
  const touch = () => {
    const now = clock.now();
    // Where it is gone, `holds` says so.
    utimes(path, now, now).catch(() => undefined);
  };
  const beat = setInterval(touch, beatMs);
  beat.unref();
  return {
    holds: async () => (await unlessAbsent(stat(path))) !== undefined,
    release: async () => {
      clearInterval(beat);
      await unlessAbsent(unlink(path));
    },
  };
}
