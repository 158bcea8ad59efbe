import pLimit from "p-limit";
import type { SignalOption } from "../store/store.ts";
import { manifestKey } from "./layout.ts";
import type { Manifest } from "./manifest.ts";
import type { RepositoryReader } from "./repository.ts";

const parallelHeads = 16;

/**
 * Until when the store refuses to remove a backup: the latest of its manifest and files, `undefined` where none is under
 * retention. A request an object.
 */
export async function lockedUntil(
  { store }: RepositoryReader,
  { instance, id, files }: Manifest,
  options: SignalOption = {},
): Promise<Date | undefined> {
  const keys = [manifestKey(instance, id), ...files.flatMap(({ volumes }) => volumes.map(({ key }) => key))];
  const limit = pLimit(parallelHeads);
  const infos = await Promise.all(keys.map((key) => limit(() => store.head(key, options))));
  const times = infos.flatMap((info) => (info?.retainedUntil === undefined ? [] : [info.retainedUntil]));
  return times.toSorted((a, b) => b.getTime() - a.getTime())[0];
}
