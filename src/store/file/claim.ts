import { createHash, randomUUID } from "node:crypto";
import { open, readdir, stat, unlink } from "node:fs/promises";
import { join } from "node:path";
import { PgkitError } from "../../lib/errors.ts";
import { formatOwner, type Owner, parseOwner, stateOf } from "../../lib/owner.ts";
import type { Clock } from "../../lib/time.ts";
import { errorCode, unlessAbsent } from "./errors.ts";
import { makeFolder, workFolder } from "./folders.ts";

/** A claim of another machine, whose process cannot be asked, counts for this long; `work` takes milliseconds. */
const foreignClaimMs = 60_000;
const patienceMs = 90_000;

/**
 * Runs `work` while no other process changes `key`. Every contender first writes a claim under a name of its own and only
 * then looks: whoever sees another living claim takes its own away and tries again. So two never go on together, and
 * what a killed process leaves is passed over, as its name says whose it was; no lock is ever taken from another.
 * `work` is handed `stillOurs`, to call right before the change that counts.
 */
export async function withClaim<T>(
  root: string,
  key: string,
  self: Owner,
  clock: Clock,
  work: (stillOurs: () => Promise<void>) => Promise<T>,
): Promise<T> {
  const mark = `claim.${createHash("sha256").update(key).digest("hex").slice(0, 24)}`;
  const folder = join(root, workFolder);
  const deadline = clock.monotonicMs() + patienceMs;
  for (let wait = 2; ; wait = Math.min(wait * 2, 200)) {
    const path = join(folder, `${mark}.${formatOwner(self)}.${randomUUID()}`);
    await writeClaim(folder, path);
    try {
      if (await isAlone(folder, path, mark, self)) return await work(() => assertStillThere(path, key));
    } finally {
      await unlessAbsent(unlink(path));
    }
    if (clock.monotonicMs() > deadline) {
      throw new PgkitError("store-failed", `another process has been changing ${key} in ${root} for ${patienceMs} ms`);
    }
    await clock.delay(clock.random() * wait);
  }
}

async function writeClaim(folder: string, path: string): Promise<void> {
  try {
    await (await open(path, "wx", 0o600)).close();
  } catch (error) {
    if (errorCode(error) !== "ENOENT") throw error;
    await makeFolder(folder);
    await (await open(path, "wx", 0o600)).close();
  }
}

async function isAlone(folder: string, path: string, mark: string, self: Owner): Promise<boolean> {
  for (const name of await readdir(folder)) {
    const other = join(folder, name);
    if (!name.startsWith(`${mark}.`) || other === path) continue;
    if (await isLive(other, name, path, self)) return false;
    await unlessAbsent(unlink(other));
  }
  return true;
}

async function isLive(other: string, name: string, ours: string, self: Owner): Promise<boolean> {
  const owner = parseOwner(name.split(".")[2] ?? "");
  const state = owner === undefined ? "unknown" : await stateOf(owner, self);
  if (state !== "unknown") return state === "alive";
  // Both times were stamped by the same file system, so that no two clocks are compared.
  const [theirs, mine] = [await unlessAbsent(stat(other)), await stat(ours)];
  return theirs !== undefined && mine.mtimeMs - theirs.mtimeMs < foreignClaimMs;
}

/** A process stopped for a minute may have been passed over by another machine, which then removed its claim. */
async function assertStillThere(path: string, key: string): Promise<void> {
  if ((await unlessAbsent(stat(path))) === undefined) {
    throw new PgkitError("condition-failed", `${key} was claimed by another while this process stood still`);
  }
}
