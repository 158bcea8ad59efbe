import { PgkitError } from "../lib/errors.ts";
import { rfc3339 } from "../lib/time.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { type Lineage, type LineageFacts, listLineages, listWal } from "../repo/wal.ts";

import type { SignalOption } from "../store/store.ts";

/** What a repository has of an instance's WAL. */
export interface OwnLineage {
  /** `undefined`: this server is new to the repository. */
  own: LineageFacts | undefined;
  /** Of servers that had the instance's name before. */
  others: LineageFacts[];
}

/**
 * Whether a server's WAL may go into a repository. Fails with `system-mismatch` when another server archives, or has
 * archived, there under the instance's name, and this one is not known: unless `newLineage` says that this is meant.
 */
export async function ownLineage(
  repository: RepositoryReader,
  lineage: Lineage,
  { newLineage, signal }: SignalOption & { newLineage: boolean },
): Promise<OwnLineage> {
  const all = await listLineages(repository, lineage.instance, { signal });
  const own = all.find(({ systemId }) => systemId === lineage.systemId);
  const others = all.filter(({ systemId }) => systemId !== lineage.systemId);
  const newest = others.at(-1);
  if (own !== undefined || newest === undefined || newLineage) return { own, others };
  const stored = await lastStoredAt(repository, newest, signal);
  const had = `the WAL of ${lineage.instance} in ${repository.where} is of the system ${newest.systemId}`;
  const until = stored === undefined ? "without any WAL yet" : `last stored at ${rfc3339(stored)}`;
  throw new PgkitError("system-mismatch", `the server is the system ${lineage.systemId}, and ${had}, ${until}`, {
    hint: "after pg_upgrade, or when the server was made anew: pgkit pitr enable --new-lineage keeps both, each restorable; else correct the instance's url or give it another name",
  });
}

/** When the last WAL file of a lineage was stored; `undefined` when it has none. */
async function lastStoredAt(
  repository: RepositoryReader,
  lineage: Lineage,
  signal: AbortSignal | undefined,
): Promise<Date | undefined> {
  let last: Date | undefined;
  for await (const { storedAt } of listWal(repository, lineage, { signal })) {
    if (last === undefined || storedAt > last) last = storedAt;
  }
  return last;
}
