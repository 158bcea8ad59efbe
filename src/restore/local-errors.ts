import { PgkitError } from "../lib/errors.ts";

/** What the system said about a file of the data directory, as ours; any other error as it is. */
export function localError(error: unknown, dir: string): unknown {
  if (!(error instanceof Error && "syscall" in error && "code" in error)) return error;
  const message = `restoring into ${dir} failed: ${error.message}`;
  switch (error.code) {
    case "ENOSPC":
    case "EDQUOT":
      return new PgkitError("disk-full", message, {
        hint: "free space there and run the same command again: it goes on where it was",
        cause: error,
      });
    case "EACCES":
    case "EPERM":
      return new PgkitError("config", message, {
        hint: "run it as the owner of that directory, who may also write in the one above, or as root",
        cause: error,
      });
    case "EBUSY":
    case "EXDEV":
      return new PgkitError("refused-overwrite", message, {
        hint: "name the directory itself by --data-dir, below where its file system is mounted",
        cause: error,
      });
    case "EROFS":
      return new PgkitError("config", message, { hint: "it is mounted read-only", cause: error });
    default:
      return new PgkitError("tool-failed", message, {
        hint: "is the disk in order? then run the same command again: it goes on where it was",
        cause: error,
      });
  }
}
