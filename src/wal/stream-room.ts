import { isPgkitError, PgkitError } from "../lib/errors.ts";

/**
 * `disk-full` where we, or pg_receivewal, found no room in the streamer's folder, which passes when something is stored; any
 * other error as it is.
 */
export function roomError(error: unknown, folder: string): unknown {
  if (!(error instanceof Error)) return error;
  const ours = "code" in error && (error.code === "ENOSPC" || error.code === "EDQUOT");
  if (!ours && !isPgkitError(error, "disk-full")) return error;
  return new PgkitError("disk-full", `the folder of the streamer ${folder} is full: ${error.message}`, {
    hint: "the server keeps what is not stored; give the folder room for 512 MiB and two segments",
    cause: error,
  });
}
