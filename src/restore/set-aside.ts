import type { Stats } from "node:fs";
import { chown, lstat, mkdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { PgkitError } from "../lib/errors.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import { readAside, removeAside, writeAside } from "./aside-record.ts";
import { syncFolder } from "./cluster-claim.ts";
import { assertNotRunning } from "./cluster-running.ts";
import { localError } from "./local-errors.ts";
import { assertSpace } from "./recovery-space.ts";

/** A data directory, and the name beside it that what was there before is kept under. */
export interface AsidePlace {
  /** Absolute. */
  readonly dataDir: string;
  readonly name: string;
}

/** What is restored, as text: another restore does not go on under the same name. */
export interface AsideRequest {
  readonly is: string;
  /** What has to fit beside the old directory. */
  readonly bytes: number;
}

/**
 * Renames what is in the data directory, so that a restore can follow into a new one of the same owner: `begun`; or
 * `going-on` where an earlier run of the same restore has done that, and `restored`, with its result, where that was
 * completed. A record beside it says so: killed anywhere, the same call goes on. Fails with `refused-overwrite` where a
 * server runs, or the name is taken, and with `disk-full` where both do not fit, before anything is renamed.
 */
export async function setAside(
  place: AsidePlace,
  request: AsideRequest,
): Promise<{ readonly type: "begun" | "going-on" } | { readonly type: "restored"; readonly result: unknown }> {
  const former = await readAside(place);
  if (former === undefined) return inWords(place, () => begin(place, request));
  if (former.state === "putting-back") {
    const message = `the data directory that is kept as ${keptAt(place)} is being put back`;
    throw new PgkitError("refused-overwrite", message, { hint: `end that first: --put-back ${place.name}` });
  }
  if (former.is !== request.is) {
    const message = `${keptAt(place)} is kept by the restore of ${former.is}, and this is ${request.is}`;
    throw new PgkitError("refused-overwrite", message, { hint: "name another: --set-aside NAME" });
  }
  if (former.state === "restored") return { type: "restored", result: former.result };
  // Killed before the renaming: what is there is the old one still.
  if (!(await isThere(keptAt(place)))) return inWords(place, () => begin(place, request));
  await inWords(place, () => makeFresh(place));
  return { type: "going-on" };
}

/** From now on `setAside` gives `result` and changes nothing. */
export async function noteRestored(place: AsidePlace, { is }: AsideRequest, result: unknown): Promise<void> {
  await writeAside(place, { is, state: "restored", result });
}

/**
 * Undoes `setAside`: what was restored meanwhile goes, or is kept as `NAME.restored` where it was complete, since a server may
 * have written to it. Changes nothing where nothing was set aside, or it was put back. Gives what is where now.
 */
export async function putBack(
  place: AsidePlace,
): Promise<{ readonly put: boolean; readonly kept: string | undefined }> {
  return inWords(place, async () => {
    const record = await readAside(place);
    const old = keptAt(place);
    if (record === undefined) {
      if (await isThere(old)) throw foreign(place);
      return { put: false, kept: undefined };
    }
    if (await isThere(old)) {
      await assertNotRunning(place.dataDir);
      const whole = record.state === "restored" || record.whole === true;
      await writeAside(place, { is: record.is, state: "putting-back", whole });
      await outOfTheWay(place, whole);
      await rename(old, place.dataDir);
      await syncFolder(dirname(place.dataDir));
    }
    await removeAside(place);
    const kept = `${old}.restored`;
    return { put: true, kept: (await isThere(kept)) ? kept : undefined };
  });
}

/** Removes what was set aside. Fails with `refused-overwrite` where the restore that did so is not complete. */
export async function dropAside(place: AsidePlace): Promise<{ readonly removed: boolean }> {
  return inWords(place, async () => {
    const record = await readAside(place);
    const old = keptAt(place);
    const isOld = await isThere(old);
    if (record === undefined && !isOld) return { removed: false };
    if (record === undefined) throw foreign(place);
    if (record.state !== "restored") {
      const message = `${old} is all that there is of the data: the restore into ${place.dataDir} is not complete`;
      throw new PgkitError("refused-overwrite", message, { hint: "complete it, or put the old data back: --put-back" });
    }
    await rm(old, { recursive: true, force: true });
    await removeAside(place);
    return { removed: true };
  });
}

/** `/bitnami/postgresql/data.pgkit-20261129T180000Z-3f9a` */
export function keptAt({ dataDir, name }: AsidePlace): string {
  return join(dirname(dataDir), name);
}

async function begin(place: AsidePlace, { is, bytes }: AsideRequest): Promise<{ type: "begun" }> {
  const { dataDir } = place;
  const old = keptAt(place);
  if (await isThere(old)) throw foreign(place);
  const found = await unlessAbsent(lstat(dataDir));
  if (found !== undefined) await assertRenamable(dataDir, found);
  await assertNotRunning(dataDir);
  await assertSpace([dirname(dataDir)], bytes);
  await writeAside(place, { is, state: "restoring" });
  if (found === undefined) await mkdir(old, { mode: 0o700 });
  else await rename(dataDir, old);
  await makeFresh(place);
  return { type: "begun" };
}

async function assertRenamable(dataDir: string, found: Stats): Promise<void> {
  const above = await lstat(dirname(dataDir));
  if (found.isDirectory() && found.dev === above.dev) return;
  const what = found.isDirectory() ? "is where a file system is mounted" : "is no directory of its own";
  throw new PgkitError("refused-overwrite", `${dataDir} ${what}, and cannot be renamed`, {
    hint: "name the directory itself by --data-dir, below where its file system is mounted",
  });
}

/** The new data directory, of the owner of the old one. */
async function makeFresh(place: AsidePlace): Promise<void> {
  const { dataDir } = place;
  if (!(await isThere(dataDir))) {
    const { uid, gid } = await lstat(keptAt(place));
    await mkdir(dataDir, { mode: 0o700 });
    if (process.getuid?.() === 0) await chown(dataDir, uid, gid);
  }
  await syncFolder(dirname(dataDir));
}

async function outOfTheWay(place: AsidePlace, whole: boolean): Promise<void> {
  const { dataDir } = place;
  if (!whole) return rm(dataDir, { recursive: true, force: true });
  const kept = `${keptAt(place)}.restored`;
  if ((await isThere(dataDir)) && !(await isThere(kept))) await rename(dataDir, kept);
}

function foreign(place: AsidePlace): PgkitError {
  const message = `${keptAt(place)} is there, and was not set aside for ${basename(place.dataDir)} by pgkit`;
  return new PgkitError("refused-overwrite", message, { hint: "name another, or look at what it is" });
}

async function isThere(path: string): Promise<boolean> {
  return (await unlessAbsent(lstat(path))) !== undefined;
}

async function inWords<T>({ dataDir }: AsidePlace, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw localError(error, dataDir);
  }
}
