import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PgkitError } from "./errors.ts";

/**
 * A new folder for temporary files that only this user can read (0700), in TMPDIR or `parent`; the caller removes it. Fails with
 * `config` where none can be made there, with `disk-full` when there is no room.
 */
export async function newScratchFolder(prefix: string, parent = tmpdir()): Promise<string> {
  try {
    return await mkdtemp(join(parent, prefix));
  } catch (error) {
    throw scratchError(error, parent);
  }
}

/** What the system said about a temporary file, as ours; any other error as it is. */
export function scratchError(error: unknown, folder = tmpdir()): unknown {
  if (!(error instanceof Error && "syscall" in error && "code" in error)) return error;
  // Others, such as EPIPE and ECONNRESET, are of sockets and pipes.
  if (!/^(ENOSPC|EDQUOT|EACCES|EPERM|EROFS|ENOENT|ENOTDIR)$/.test(String(error.code))) return error;
  const full = error.code === "ENOSPC" || error.code === "EDQUOT";
  const message = `a temporary file in ${folder} could not be written: ${error.message}`;
  return new PgkitError(full ? "disk-full" : "config", message, {
    hint: full
      ? "free space there, or set TMPDIR to a folder with more"
      : "set TMPDIR to a folder that is there and that pgkit's user can write to",
    cause: error,
  });
}
