import pLimit from "p-limit";
import { isPgkitError } from "../lib/errors.ts";
import { type Lsn, parseLsn } from "../lib/lsn.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import type { StretchTimes, WindowStretch } from "../repo/windows.ts";
import type { SignalOption } from "../store/store.ts";
import { firstStoredTransaction, lastStoredTransaction } from "./segment-stored.ts";
import type { Transaction } from "./segment-transaction.ts";

const parallelReads = 4;

/**
 * When the windows end, and what is stored behind a gap begins: from a few segments of each stretch. Where nobody here can
 * decrypt them, `unread` says so. See `recoveryWindows`.
 */
export async function readStretchTimes(
  repository: RepositoryReader,
  stretches: readonly WindowStretch[],
  options: SignalOption = {},
): Promise<Map<string, StretchTimes>> {
  const behind = new Set(stretches.flatMap(({ backups, gap }) => (backups.length === 0 ? [] : (gap?.next ?? []))));
  const limit = pLimit(parallelReads);
  const times = new Map<string, StretchTimes>();
  await Promise.all(
    stretches
      .filter(({ key, backups }) => backups.length > 0 || behind.has(key))
      .map((stretch) =>
        limit(async () => {
          times.set(stretch.key, await timesOf(repository, stretch, behind.has(stretch.key), options));
        }),
      ),
  );
  return times;
}

async function timesOf(
  repository: RepositoryReader,
  stretch: WindowStretch,
  isBehindGap: boolean,
  options: SignalOption,
): Promise<StretchTimes> {
  try {
    const last = stretch.backups.length === 0 ? undefined : await lastOf(repository, stretch, options);
    const first = isBehindGap ? await firstOf(repository, stretch, options) : undefined;
    return {
      ...(first === undefined ? {} : { first: first.time }),
      ...(last === undefined ? {} : { last: { time: last.time, endLsn: last.endLsn } }),
    };
  } catch (error) {
    // A host that only writes backups has no identity; the windows are worth showing there, too.
    if (isPgkitError(error, "identity-required", "identity-wrong")) return { unread: true };
    throw error;
  }
}

/** The last one on the newest timeline of the path that has one; nothing before the newest backup is of interest. */
async function lastOf(
  repository: RepositoryReader,
  { inventory, stretch, backups }: WindowStretch,
  { signal }: SignalOption,
): Promise<Transaction | undefined> {
  const stops = backups.map(({ base }) => parseLsn(base.stopLsn));
  const sinceLsn = stops.reduce((latest: Lsn, stop) => (stop > latest ? stop : latest), 0n);
  for (const { timeline, endLsn } of stretch?.parts.toReversed() ?? []) {
    if (endLsn <= sinceLsn) return undefined;
    const found = await lastStoredTransaction(repository, inventory, timeline, { endLsn, sinceLsn, signal });
    if (found !== undefined) return found;
  }
  return undefined;
}

async function firstOf(
  repository: RepositoryReader,
  { inventory, stretch }: WindowStretch,
  options: SignalOption,
): Promise<Transaction | undefined> {
  for (const part of stretch?.parts ?? []) {
    const found = await firstStoredTransaction(repository, inventory, part.timeline, part, options);
    if (found !== undefined) return found;
  }
  return undefined;
}
