import { chown, mkdir, readdir, rename, rm, rmdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { PgkitError } from "../lib/errors.ts";
import type { Programs } from "../postgres/programs.ts";
import type { RunAs } from "../postgres/run-as.ts";
import type { Manifest } from "../repo/manifest.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import type { ClusterFilesRequest, RestoredFiles } from "./cluster.ts";
import { formerControlPath } from "./cluster-claim.ts";
import { linkTablespaces } from "./cluster-finish.ts";
import { extractBackup, readServerManifest } from "./cluster-full.ts";
import { markerName } from "./cluster-marker.ts";
import { controlPath, type Places, placesOf, waitingControlPath } from "./cluster-places.ts";
import { savedWalPath } from "./cluster-wal.ts";
import { combineBackups, verifyBackupFolder } from "./combine.ts";

/**
 * Inside the data directory and each tablespace's, so that it lies on their file systems wherever those are mounted. What a
 * killed run left there goes at the next one.
 */
export const scratchName = "pgkit-restore.d";
const combinedName = "combined";

/**
 * Restores every link of a chain beside the others, checks each by pg_verifybackup (pg_combinebackup itself checks none), and
 * puts what pg_combinebackup makes of them in the place of all that is there, with pg_control under its waiting name.
 */
export async function restoreChain(
  request: ClusterFilesRequest,
  places: Places,
  onBytes: (bytes: number) => void,
): Promise<RestoredFiles> {
  const { chain, runAs, signal } = request;
  const programs = requirePrograms(request.programs, chain);
  const scratch = join(places.dataDir, scratchName);
  await emptyScratch(places, runAs);
  const total: RestoredFiles = { files: 0, writtenBytes: 0, keptFiles: 0 };
  const links: Places[] = [];
  for (const [index, backup] of chain.entries()) {
    const link = await linkPlaces(join(scratch, String(index)), backup, runAs);
    const manifest = await readServerManifest(request.repository, backup, signal);
    const { wants: _, ...everything } = request;
    const restored = await extractBackup(everything, backup, link, { manifest, fresh: true, onBytes });
    await rename(join(link.dataDir, waitingControlPath), join(link.dataDir, controlPath));
    // The links are right already, and a map in the result would make them anew, to these places.
    await rm(join(link.dataDir, "tablespace_map"), { force: true });
    await verifyBackupFolder(programs, link.dataDir, { backup: backup.id, runAs, signal });
    total.files = restored.files;
    total.writtenBytes += restored.writtenBytes;
    links.push(link);
  }
  const output: Places = {
    dataDir: join(scratch, combinedName),
    tablespaces: places.tablespaces.map(({ oid, from, to }) => ({ oid, from, to: join(to, scratchName) })),
  };
  await combineBackups(programs, links, output, { runAs, signal });
  await putInPlace(output, places);
  await linkTablespaces(places, runAs);
  return total;
}

function requirePrograms(programs: Programs | undefined, chain: readonly Manifest[]): Programs {
  if (programs !== undefined && programs.major >= 17) return programs;
  const last = chain.at(-1);
  throw new PgkitError("tool-missing", `pg_combinebackup is needed to restore the incremental backup ${last?.id}`, {
    hint: `install the server's package of PostgreSQL ${Number.parseInt(last?.server.version ?? "17", 10)}`,
  });
}

async function emptyScratch({ dataDir, tablespaces }: Places, runAs: RunAs | undefined): Promise<void> {
  // A pg_combinebackup of the killed run may be writing there still: it ends with the first file that it cannot make.
  const all = { recursive: true, force: true, maxRetries: 10 };
  for (const dir of tablespaces.map(({ to }) => to)) await rm(join(dir, scratchName), all);
  await rm(join(dataDir, scratchName), all);
  await ownFolder(join(dataDir, scratchName), runAs);
}

/** Puts the saved WAL back, which a run that was killed while it put its work in place had taken along. */
export async function bringSavedWalBack(dataDir: string, runAs: RunAs | undefined): Promise<void> {
  const taken = join(dataDir, scratchName, combinedName, savedWalPath);
  if ((await unlessAbsent(stat(taken))) === undefined) return;
  const wal = join(dataDir, "pg_wal");
  if ((await unlessAbsent(stat(wal))) === undefined) await ownFolder(wal, runAs);
  await rename(taken, join(dataDir, savedWalPath));
}

async function ownFolder(path: string, runAs: RunAs | undefined): Promise<void> {
  await mkdir(path, { mode: 0o700 });
  if (runAs !== undefined) await chown(path, runAs.uid, runAs.gid);
}

/** A link keeps its tablespaces beside its data directory. */
async function linkPlaces(folder: string, backup: Manifest, runAs: RunAs | undefined): Promise<Places> {
  const oids = (backup.base?.tablespaces ?? [])
    .filter(({ location }) => location.startsWith("/"))
    .map(({ oid }) => oid);
  const places = placesOf(backup, join(folder, "data"), new Map(oids.map((oid) => [oid, join(folder, String(oid))])));
  for (const dir of [folder, places.dataDir, ...places.tablespaces.map(({ to }) => to)]) await ownFolder(dir, runAs);
  return places;
}

/** Only now is anything removed that was there before; the marker tells that it is all ours, should this be cut. */
async function putInPlace(output: Places, places: Places): Promise<void> {
  await rename(join(output.dataDir, controlPath), join(output.dataDir, waitingControlPath));
  await unlessAbsent(rename(join(places.dataDir, savedWalPath), join(output.dataDir, savedWalPath)));
  const former = join(places.dataDir, formerControlPath);
  await unlessAbsent(rename(former, join(output.dataDir, formerControlPath)));
  for (const name of await readdir(places.dataDir)) {
    if (name === markerName || name === scratchName) continue;
    await rm(join(places.dataDir, name), { recursive: true });
  }
  for (const [index, { to }] of places.tablespaces.entries()) {
    const from = output.tablespaces[index]?.to ?? "";
    for (const name of await readdir(from)) {
      await rm(join(to, name), { recursive: true, force: true });
      await rename(join(from, name), join(to, name));
    }
    await rmdir(from);
  }
  for (const name of await readdir(output.dataDir)) {
    await rename(join(output.dataDir, name), join(places.dataDir, name));
  }
  await rm(join(places.dataDir, scratchName), { recursive: true });
}
