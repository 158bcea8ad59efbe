import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { databaseOf } from "./database-files.ts";

/** As xlogutils.c words it, from 15 to 18, of a page that WAL names and that the files do not have. */
const words = /WARNING: {2}page \d+ of relation (\S+) (?:is uninitialized|does not exist)/;

/**
 * The relations of which recovery missed pages, by the server's log, but for those of the databases in `left`, whose pages
 * nobody restored. Empty when recovery found every page of all others.
 */
export async function missedRelations(log: string, left: ReadonlySet<number>): Promise<string[]> {
  const missed = new Set<string>();
  for await (const line of createInterface({ input: createReadStream(log), crlfDelay: Number.POSITIVE_INFINITY })) {
    const path = words.exec(line)?.[1];
    if (path !== undefined && !left.has(databaseOf(path) ?? 0)) missed.add(path);
  }
  return [...missed];
}
