import { access, constants, stat, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { PgkitError } from "../../lib/errors.ts";
import { formatBytes } from "../../lib/parse.ts";
import type { Manifest } from "../../repo/manifest.ts";
import type { Ledger } from "../ledger.ts";

export interface FolderFacts {
  exists: boolean;
  /** Itself, or where it will be made. */
  nearest: string;
}

/** With less than this left, and no backup yet to go by, it is worth a word. */
const littleBytes = 1024 ** 3;

/** What is special about a repository in a folder: others on this machine, and the disk. Writes nothing. */
export async function checkFolder(ledger: Ledger, path: string): Promise<FolderFacts | undefined> {
  return ledger.run("folder", async (found) => {
    const mode = await modeOf(path);
    if (mode === undefined) {
      const above = await nearestAbove(path);
      await assertWritable(above, `${path} cannot be made: ${above} is closed to this user`);
      found.ok(`${path} is not there yet and will be made in ${above}; storing is tried once it is there`);
      return { exists: false, nearest: above };
    }
    if (!mode.isDirectory) {
      throw new PgkitError("config", `${path} is a file, not a folder`, { hint: "name a folder as the repository" });
    }
    await assertWritable(path, `${path} cannot be written to`);
    if ((mode.bits & 0o007) === 0) {
      found.ok(`only its owner${(mode.bits & 0o070) === 0 ? "" : " and group"} may look into it`);
    } else {
      const remedy = `chmod 700 ${path}, and 600 for files in it that others may read`;
      found.warning(`every user of this machine may look into ${path} (mode ${mode.bits.toString(8)})`, remedy);
    }
    return { exists: true, nearest: path };
  });
}

async function modeOf(path: string): Promise<{ bits: number; isDirectory: boolean } | undefined> {
  try {
    const found = await stat(path);
    return { bits: found.mode & 0o777, isDirectory: found.isDirectory() };
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw denied(`${path} cannot be looked at`, error);
  }
}

async function nearestAbove(path: string): Promise<string> {
  for (let at = dirname(path); ; at = dirname(at)) {
    if ((await modeOf(at)) !== undefined || at === dirname(at)) return at;
  }
}

async function assertWritable(folder: string, problem: string): Promise<void> {
  try {
    await access(folder, constants.W_OK | constants.X_OK);
  } catch (error) {
    throw denied(problem, error);
  }
}

function denied(message: string, cause: unknown): PgkitError {
  const said = cause instanceof Error ? `: ${cause.message}` : "";
  const readOnly = cause instanceof Error && "code" in cause && cause.code === "EROFS";
  const hint = readOnly ? "it is mounted read-only" : "does it belong to the user that pgkit runs as?";
  return new PgkitError("store-denied", `${message}${said}`, { hint, cause });
}

/** Tells whether backups as large as the newest of each database fit on the disk once more. */
export async function checkSpace(ledger: Ledger, { nearest }: FolderFacts, newest: readonly Manifest[]): Promise<void> {
  await ledger.run("space", async (found) => {
    const { bavail, bsize } = await statfs(nearest);
    const freeBytes = bavail * bsize;
    const lastBytes = newest.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
    const free = `${formatBytes(freeBytes)} free`;
    const message = newest.length === 0 ? free : `${free}; the newest backups take ${formatBytes(lastBytes)} together`;
    const remedy = "free space there, prune more (pgkit prune --dry-run shows what goes), or use a larger disk";
    if (freeBytes < lastBytes) found.error(`${message}: the next ones will not fit`, remedy, "store-full");
    else if (freeBytes < 2 * lastBytes) found.warning(`${message}: after the next ones it will be full`, remedy);
    else if (newest.length === 0 && freeBytes < littleBytes) found.warning(message, remedy);
    else found.ok(message);
  });
}
