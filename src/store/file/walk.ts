import { lstat, readdir } from "node:fs/promises";
import { join } from "node:path";
import { throwIfCancelled } from "../cancel.ts";
import { isSegment } from "../key.ts";
import type { ListOptions, ObjectInfo } from "../store.ts";
import { saysAbsent, unlessAbsent } from "./errors.ts";
import { infoOf } from "./info.ts";

/** Every object under `root` whose key starts with `prefix`, in byte order of whole keys. Links are not followed. */
export async function* walk(
  root: string,
  prefix: string,
  { after = "", signal }: ListOptions,
): AsyncGenerator<ObjectInfo> {
  const parent = prefix.slice(0, prefix.lastIndexOf("/") + 1);
  // A prefix such as `a/../../etc/` names no object, and must not become a path.
  if (parent !== "" && !parent.slice(0, -1).split("/").every(isSegment)) return;
  if (!(await leadsThroughFolders(root, parent))) return;
  yield* walkFolder(root, parent, { prefix, after, signal });
}

async function leadsThroughFolders(root: string, parent: string): Promise<boolean> {
  let at = root;
  for (const segment of parent.split("/").slice(0, -1)) {
    at = join(at, segment);
    const found = await unlessAbsent(lstat(at));
    if (found?.isDirectory() !== true) return false;
  }
  return true;
}

interface Wanted {
  prefix: string;
  after: string;
  signal: AbortSignal | undefined;
}

async function* walkFolder(root: string, folder: string, wanted: Wanted): AsyncGenerator<ObjectInfo> {
  for (const name of await namesIn(root, folder)) {
    throwIfCancelled(wanted.signal);
    const key = folder + name;
    if (name.endsWith("/")) {
      if (mayHold(key, wanted)) yield* walkFolder(root, key, wanted);
    } else if (key.startsWith(wanted.prefix) && key > wanted.after) {
      const found = await unlessAbsent(lstat(join(root, key), { bigint: true }));
      if (found?.isFile() === true) yield infoOf(key, found);
    }
  }
}

/**
 * Names in the order of the keys that they begin. A folder sorts as `name/`, since that is how its keys go on: `a-b` and
 * `a.b` come before all of `a/`, and `a0` after it.
 */
async function namesIn(root: string, folder: string): Promise<string[]> {
  try {
    const entries = await readdir(join(root, folder), { withFileTypes: true });
    return (
      entries
        .filter((entry) => isSegment(entry.name) && (entry.isDirectory() || entry.isFile()))
        // Made by mkfs at the top of a file system, and closed to all but root.
        .filter((entry) => !(folder === "" && entry.isDirectory() && entry.name === "lost+found"))
        .map((entry) => (entry.isDirectory() ? `${entry.name}/` : entry.name))
        .sort()
    );
  } catch (error) {
    if (saysAbsent(error)) return [];
    throw error;
  }
}

function mayHold(folder: string, { prefix, after }: Wanted): boolean {
  const inPrefix = folder.startsWith(prefix) || prefix.startsWith(folder);
  return inPrefix && (folder > after || after.startsWith(folder));
}
