import { backupLease, type LeaseOptions, withLease } from "../repo/lease.ts";
import type { Repository } from "../repo/repository.ts";
import type { BackupDestination, BackupFailure } from "./logical.ts";

/** A repository that is opened when the backup starts, so that one that cannot be does not stop the others. */
export interface DestinationOpener {
  /** Its URL, for messages. */
  where: string;
  open(): Promise<Repository>;
}

/**
 * Opens the repositories and runs `run` while nobody else backs up the instance into any of them. One that cannot be
 * opened, or is locked by another run, is among the failures and the others go on; each has a signal of its own.
 */
export async function withDestinations<Result>(
  openers: readonly DestinationOpener[],
  instance: string,
  lease: LeaseOptions,
  run: (destinations: readonly BackupDestination[], failures: readonly BackupFailure[]) => Promise<Result>,
): Promise<Result> {
  const failures: BackupFailure[] = [];
  const enter = async (left: readonly DestinationOpener[], held: readonly BackupDestination[]): Promise<Result> => {
    const [next, ...others] = left;
    if (next === undefined) return run(held, failures);
    let entered = false;
    try {
      const repository = await next.open();
      return await withLease(repository, backupLease(instance), lease, (signal) => {
        entered = true;
        return enter(others, [...held, { repository, signal }]);
      });
    } catch (error) {
      if (entered || lease.signal?.aborted === true) throw error;
      failures.push({ repository: next.where, error });
      return enter(others, held);
    }
  };
  return enter(openers, []);
}
