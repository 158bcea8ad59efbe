import { PgkitError } from "../../lib/errors.ts";

/** What the file system said, as ours; `doing` is a phrase such as `writing a/b in /backups`. */
export function fileError(error: unknown, doing: string): PgkitError {
  if (error instanceof PgkitError) return error;
  const code = errorCode(error);
  const said = error instanceof Error ? error.message : String(error);
  const message = `${doing} failed: ${said}`;
  switch (code) {
    case "ENOSPC":
    case "EDQUOT":
      return new PgkitError("store-full", message, { hint: "free space there, or prune old backups", cause: error });
    case "EACCES":
    case "EPERM":
      return new PgkitError("store-denied", message, {
        hint: "is the folder owned by the user that pgkit runs as?",
        cause: error,
      });
    case "EROFS":
      return new PgkitError("store-denied", message, { hint: "it is mounted read-only", cause: error });
    case "ELOOP":
      return new PgkitError("store-denied", message, { hint: "symbolic links are not followed", cause: error });
    case "ENOTDIR":
    case "EEXIST":
      return new PgkitError("store-failed", message, {
        hint: "is something on the way there a file, not a folder?",
        cause: error,
      });
    default:
      return new PgkitError("store-failed", message, {
        hint: "is the disk in order, and still mounted there?",
        cause: error,
      });
  }
}

/** `ENOENT` and the like; undefined where `error` is not one of the system's. */
export function errorCode(error: unknown): string | undefined {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return typeof code === "string" ? code : undefined;
}

/** True when the system said that there is no such file: the name, or a folder on the way, is not there. */
export function saysAbsent(error: unknown): boolean {
  const code = errorCode(error);
  return code === "ENOENT" || code === "ENOTDIR";
}

/** `work`, or undefined where the system said that there is no such file. */
export async function unlessAbsent<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (saysAbsent(error)) return undefined;
    throw error;
  }
}
