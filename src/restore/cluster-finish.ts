import { chmod, lchown, readlink, rename, rm, symlink, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import type { RunAs } from "../postgres/run-as.ts";
import { writePrivateFile } from "../postgres/run-as.ts";
import { unlessAbsent } from "../store/file/errors.ts";
import { formerControlPath, syncFolder } from "./cluster-claim.ts";
import type { Found } from "./cluster-extract.ts";
import { markerName } from "./cluster-marker.ts";
import { controlPath, type Places, waitingControlPath } from "./cluster-places.ts";

/** Links, their map, the manifest, and the modes of the places: what the archives do not hold as it must be. */
export async function settleCluster(
  places: Places,
  found: Found,
  manifestText: Uint8Array,
  runAs: RunAs | undefined,
): Promise<void> {
  const { dataDir, tablespaces } = places;
  await linkTablespaces(places, runAs);
  if (tablespaces.some(({ from, to }) => from !== to)) {
    // With the old map in it, recovery would make the links anew, to the old places.
    const lines = tablespaces.map(({ oid, to }) => `${oid} ${to.replaceAll(/[\\\n\r]/g, "\\$&")}\n`);
    await replace(join(dataDir, "tablespace_map"), Buffer.from(lines.join("")), runAs);
  }
  await replace(join(dataDir, "backup_manifest"), manifestText, runAs);
  // Group access is a property of the cluster, which all its folders have or none.
  const mode = found.folders.get("global") ?? 0o700;
  for (const dir of [dataDir, ...tablespaces.map(({ to }) => to)]) await chmod(dir, mode);
}

export async function linkTablespaces({ dataDir, tablespaces }: Places, runAs: RunAs | undefined): Promise<void> {
  for (const { oid, to } of tablespaces) await linkTablespace(join(dataDir, "pg_tblspc", String(oid)), to, runAs);
}

async function linkTablespace(link: string, to: string, runAs: RunAs | undefined): Promise<void> {
  const there = await readlink(link).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && (error.code === "ENOENT" || error.code === "EINVAL"))
      return undefined;
    throw error;
  });
  if (there !== to) {
    await rm(link, { recursive: true, force: true });
    await symlink(to, link);
  }
  if (runAs !== undefined) await lchown(link, runAs.uid, runAs.gid);
}

async function replace(path: string, bytes: Uint8Array, runAs: RunAs | undefined): Promise<void> {
  await rm(path, { force: true });
  await writePrivateFile(path, "", runAs);
  await writeFile(path, bytes);
}

/** The last steps, each durable before the next: the cluster becomes one that starts by the renaming of pg_control. */
export async function finishCluster(places: Places, beforeControl: (() => Promise<void>) | undefined): Promise<void> {
  const { dataDir } = places;
  await makeDurable(places);
  if (beforeControl !== undefined) {
    await beforeControl();
    await makeDurable(places);
  }
  await rename(join(dataDir, waitingControlPath), join(dataDir, controlPath));
  await syncFolder(join(dataDir, "global"));
  await unlessAbsent(unlink(join(dataDir, formerControlPath)));
  await unlink(join(dataDir, markerName));
  await syncFolder(dataDir);
}

/**
 * All of the file systems that the cluster is on. One `sync -f` waits for the disk once, where fsync would for each of
 * thousands of files; it fails when anything could not be written.
 */
async function makeDurable({ dataDir, tablespaces }: Places): Promise<void> {
  await execa("sync", ["-f", dataDir, ...tablespaces.map(({ to }) => to)]);
}
