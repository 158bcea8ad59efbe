import { isPgkitError } from "../lib/errors.ts";

/** The exit status of a run of which some part failed, each part named. */
export const partlyDone = 3;

/** A part's failure inside a result that is otherwise good. */
export function errorJson(error: unknown): { code: string; message: string; hint: string } {
  const message = error instanceof Error ? error.message : String(error);
  return isPgkitError(error)
    ? { code: error.code, message, hint: error.hint ?? "" }
    : { code: "bug", message, hint: "" };
}
