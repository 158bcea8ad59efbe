import type { BigIntStats } from "node:fs";
import type { ObjectInfo } from "../store.ts";

/** Each version is a new file under a new inode with a time of its own: see `makeTimeUnique`. */
export function infoOf(key: string, found: BigIntStats): ObjectInfo {
  const etag = [found.ino, found.mtimeNs, found.size].map((part) => part.toString(36)).join("-");
  return { key, bytes: Number(found.size), etag, modifiedAt: found.mtime };
}
