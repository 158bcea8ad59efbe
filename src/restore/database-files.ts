import type { BaseFacts } from "../repo/manifest.ts";

export interface DatabaseEntry {
  name: string;
  oid: number;
  sizeBytes: number;
}

/** Which files of a base backup a scratch server needs that is to give one database. */
export interface NeededFiles {
  /** Databases whose tables and indexes stay sparse; empty when all is written. */
  left: readonly DatabaseEntry[];
  /** For `restoreClusterFiles`. */
  wants: (path: string) => boolean;
}

/** Recovery copies new databases from the first two; to the third we connect. */
const always = ["template0", "template1", "postgres"];

/**
 * The files that a recovery has to find so that one database comes out right: all but the relations of the other
 * databases that the backup knows. What is not told apart by its name is written. With `whole`, and when the database is
 * none that the backup knows, it is all files.
 */
export function neededFiles(
  { databases }: Pick<BaseFacts, "databases">,
  wanted: { oids: readonly number[]; whole: boolean },
): NeededFiles {
  const known = databases.some(({ oid }) => wanted.oids.includes(oid));
  const left =
    wanted.whole || !known
      ? []
      : databases.filter(({ name, oid }) => !always.includes(name) && !wanted.oids.includes(oid));
  const oids = new Set(left.map(({ oid }) => oid));
  return { left, wants: (path) => !oids.has(databaseOf(path) ?? 0) };
}

/** A relation's file, with its fork and segment: `base/16384/16390_vm.1`, `pg_tblspc/16385/PG_17_202406281/16384/16390`. */
const relationFile = /^(?:base|pg_tblspc\/\d+\/[^/]+)\/(\d+)\/(?:t\d+_)?\d+(?:_[a-z]+)?(?:\.\d+)?$/;

/** The database that a relation's file belongs to; `undefined` for every other file, and for shared relations. */
export function databaseOf(path: string): number | undefined {
  const [, oid] = relationFile.exec(path) ?? [];
  return oid === undefined ? undefined : Number(oid);
}
