import { stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { unlessAbsent } from "./errors.ts";

/**
 * The number of the file system that a path is on, or would be made on. It changes when one is mounted there or goes; it
 * may also change with the machine's next start.
 */
export async function deviceOf(path: string): Promise<string> {
  for (let at = resolve(path); ; at = dirname(at)) {
    const found = await unlessAbsent(stat(at, { bigint: true }));
    if (found !== undefined) return String(found.dev);
    if (at === dirname(at)) throw new Error("the root folder is not there");
  }
}
