import { chmod, chown, lstat, mkdir, open, readdir, readFile, readlink, rename, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { PgkitError } from "../lib/errors.ts";
import type { RunAs } from "../postgres/run-as.ts";
import type { Manifest } from "../repo/manifest.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import { type Marker, markerDraftName, readMarker, writeMarker } from "./cluster-marker.ts";
import { controlPath, type Places } from "./cluster-places.ts";
import { assertNotRunning } from "./cluster-running.ts";

/** The pg_control that was there before a delta restore, until it is done. */
export const formerControlPath = "global/pg_control.pgkit-before";

/**
 * Whether a backup may be restored into these places, looking only: `new` into empty ones; `resumed` where this restore was
 * cut; `delta` over what is there of the same system. Fails with `refused-overwrite`, `system-mismatch` or `locked`.
 */
export async function claimOf(places: Places, backup: Manifest, delta: boolean): Promise<"new" | "resumed" | "delta"> {
  const { dataDir } = places;
  const empty = await isEmpty(dataDir, "the data directory");
  const marker = empty ? undefined : await readMarker(dataDir);
  const state = empty ? "new" : await stateOfFull(dataDir, backup, delta, marker);
  for (const { oid, to } of places.tablespaces) {
    if (await isEmpty(to, `the directory of tablespace ${oid}`)) continue;
    if (marker?.tablespaces.includes(to) || (state !== "new" && (await linkOf(dataDir, oid)) === to)) continue;
    throw new PgkitError("refused-overwrite", `the directory ${to} of tablespace ${oid} is not empty`, {
      hint: `name an empty one: --tablespace ${oid}=DIR`,
    });
  }
  return state;
}

async function stateOfFull(
  dataDir: string,
  backup: Manifest,
  delta: boolean,
  marker: Marker | undefined,
): Promise<"resumed" | "delta"> {
  await assertNotRunning(dataDir);
  if (marker !== undefined && marker.backup === backup.id && marker.systemId === backup.server.systemId)
    return "resumed";
  if (!delta) {
    const what = marker === undefined ? "is not empty" : `holds a restore of ${marker.backup} that was cut`;
    const first = marker === undefined ? "name an empty one" : `--backup ${marker.backup} goes on with that one`;
    throw new PgkitError("refused-overwrite", `the data directory ${dataDir} ${what}`, {
      hint: `${first}; --delta goes over a directory of the same system and keeps what is right in it`,
    });
  }
  const systemId = marker?.systemId ?? (await systemIdOf(dataDir));
  if (systemId === backup.server.systemId) return "delta";
  const message = `${dataDir} is of the system ${systemId}, backup ${backup.id} of ${backup.server.systemId}`;
  throw new PgkitError("system-mismatch", message, {
    hint: "name an empty directory: nothing was changed in this one",
  });
}

/** The system identifier in the first 8 bytes of pg_control. */
export async function systemIdOf(dataDir: string): Promise<string> {
  const bytes = await unlessAbsent(readFile(join(dataDir, controlPath)));
  if (bytes !== undefined && bytes.length >= 8) return bytes.readBigUInt64LE().toString();
  throw new PgkitError(
    "refused-overwrite",
    `${dataDir} is not empty, and no data directory: it has no ${controlPath}`,
    {
      hint: "name an empty directory: nothing was changed in this one",
    },
  );
}

async function linkOf(dataDir: string, oid: number): Promise<string | undefined> {
  const path = join(dataDir, "pg_tblspc", String(oid));
  const found = await unlessAbsent(lstat(path));
  return found?.isSymbolicLink() ? await readlink(path) : undefined;
}

/** True also where there is no such directory. */
async function isEmpty(dir: string, what: string): Promise<boolean> {
  const found = await unlessAbsent(stat(dir));
  if (found === undefined) return true;
  if (!found.isDirectory()) throw new PgkitError("refused-overwrite", `${what} ${dir} is a file`);
  // A run that was killed before its marker had its name has changed nothing else.
  return (await readdir(dir)).every((name) => name === markerDraftName);
}

/**
 * The first change: the places are made ours, the marker says whose they are from now on, and a pg_control that is there
 * goes aside, so that no server starts on what is neither the old nor the new.
 */
export async function takePlaces(places: Places, backup: Manifest, runAs: RunAs | undefined): Promise<void> {
  const { dataDir, tablespaces } = places;
  for (const dir of [dataDir, ...tablespaces.map(({ to }) => to)]) {
    await makePlace(dir);
    await chmod(dir, 0o700);
    if (runAs !== undefined) await chown(dir, runAs.uid, runAs.gid);
  }
  const { id, server } = backup;
  const facts = { backup: id, systemId: server.systemId, tablespaces: tablespaces.map(({ to }) => to) };
  await writeMarker(dataDir, facts, runAs);
  await syncFolder(dataDir);
  await unlessAbsent(rename(join(dataDir, controlPath), join(dataDir, formerControlPath)));
  await unlessAbsent(syncFolder(join(dataDir, "global")));
}

/**
 * Makes it with those above it, through which the server's user must pass. Node's own way would say of a read-only file
 * system that the directory is not there.
 */
async function makePlace(dir: string, mode = 0o700): Promise<void> {
  if ((await unlessAbsent(stat(dir))) !== undefined) return;
  await makePlace(dirname(dir), 0o755);
  await mkdir(dir, { mode });
}

/** Makes the names in a directory durable. */
export async function syncFolder(dir: string): Promise<void> {
  const handle = await open(dir, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
