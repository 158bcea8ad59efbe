import { stat, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { PgkitError } from "../lib/errors.ts";
import { formatBytes } from "../lib/parse.ts";
import { unlessAbsent } from "../store/file/errors.ts";

/**
 * Fails with `disk-full` when the file systems of these directories, which need not be there yet, have less than `bytes`
 * free together. How much goes to which of several is not known beforehand.
 */
export async function assertSpace(dirs: readonly string[], bytes: number): Promise<void> {
  const free = new Map<number, number>();
  for (const dir of dirs) {
    const { path, device } = await nearestThere(dir);
    const { bavail, bsize } = await statfs(path);
    free.set(device, bavail * bsize);
  }
  const total = [...free.values()].reduce((sum, each) => sum + each, 0);
  if (total >= bytes) return;
  const message = `${dirs.join(", ")}: ${formatBytes(total)} are free, and ${formatBytes(bytes)} are to be restored`;
  throw new PgkitError("disk-full", message, {
    hint: "free space there, name another directory, or place tablespaces elsewhere by --tablespace OID=DIR",
  });
}

async function nearestThere(dir: string): Promise<{ path: string; device: number }> {
  const found = await unlessAbsent(stat(dir));
  return found === undefined ? nearestThere(dirname(dir)) : { path: dir, device: found.dev };
}
