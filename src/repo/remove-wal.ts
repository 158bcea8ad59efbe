import { isPgkitError, type PgkitError } from "../lib/errors.ts";
import type { SignalOption } from "../store/store.ts";
import type { Repository } from "./repository.ts";
import type { WalPlan } from "./wal-retention.ts";

/** What was removed of the WAL of one lineage. */
export interface WalRemoval {
  instance: string;
  systemId: string;
  files: number;
  bytes: number;
  gaps: number;
  /** Why what was to go stays. */
  skipped?: string | undefined;
  /** The store's own no. */
  refused?: PgkitError | undefined;
}

/** So few that what is removed stays the oldest of all when a run is cut. */
const filesAtOnce = 100;

/** Removes the files of the plan, oldest first, and then the records of gaps before them. Stops at the store's first no. */
export async function removeWal(
  { store }: Repository,
  { lineage: { instance, systemId }, remove, removeGaps }: WalPlan,
  options: SignalOption & { onBytes?: (bytes: number) => void },
): Promise<WalRemoval> {
  const { signal, onBytes } = options;
  const removal: WalRemoval = { instance, systemId, files: 0, bytes: 0, gaps: 0 };
  try {
    for (let at = 0; at < remove.length; at += filesAtOnce) {
      const batch = remove.slice(at, at + filesAtOnce);
      await store.delete(
        batch.map(({ key }) => key),
        { signal },
      );
      removal.files += batch.length;
      removal.bytes += batch.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
      onBytes?.(removal.bytes);
    }
    if (removeGaps.length > 0) {
      await store.delete(
        removeGaps.map(({ key }) => key),
        { signal },
      );
      removal.gaps = removeGaps.length;
    }
  } catch (error) {
    if (!isPgkitError(error, "store-denied")) throw error;
    removal.refused = error;
  }
  return removal;
}
