import { PgkitError } from "../lib/errors.ts";
import { parseLsn, segmentAt, segmentName } from "../lib/lsn.ts";
import type { Clock } from "../lib/time.ts";
import type { RepositoryReader } from "../repo/repository.ts";
import { findWal, type Lineage, listWal, readWal } from "../repo/wal.ts";
import type { SignalOption } from "../store/store.ts";
import type { InstanceFacts } from "./base-facts.ts";

/** The WAL that a base backup cannot be restored without. */
export interface NeededWal {
  lineage: Lineage;
  timeline: number;
  startLsn: string;
  stopLsn: string;
  segmentBytes: number;
}

/** The archiver has the last segment by now, so that it mostly comes within the first looks. */
const [soonMs, pollMs] = [50, 500];

/**
 * Waits until all of it is in the repository: whole segments, the last one may be a partial one that reaches the stop.
 * Fails with `wal-missing`, naming the first that is not there, when none came for `timeoutMs`.
 */
export async function waitForWal(
  repository: RepositoryReader,
  wal: NeededWal,
  { clock, timeoutMs, signal }: { clock: Clock; timeoutMs: number; signal: AbortSignal },
): Promise<void> {
  const names = segmentsOf(wal);
  let missing = 0;
  let waitMs = soonMs;
  for (let deadline = clock.monotonicMs() + timeoutMs; ; waitMs = Math.min(pollMs, waitMs * 1.5)) {
    const before = missing;
    while (missing < names.length && (await isStored(repository, wal, names[missing] ?? "", { signal }))) missing++;
    if (missing === names.length) return;
    if (missing > before) deadline = clock.monotonicMs() + timeoutMs;
    if (clock.monotonicMs() >= deadline) throw notStored(repository, names, missing, timeoutMs);
    await clock.delay(waitMs, signal);
  }
}

/** The names of all segments from the start to the stop. */
export function segmentsOf({ timeline, startLsn, stopLsn, segmentBytes }: NeededWal): string[] {
  const names: string[] = [];
  const last = segmentAt(timeline, parseLsn(stopLsn) - 1n, segmentBytes).startLsn;
  for (
    let lsn = segmentAt(timeline, parseLsn(startLsn), segmentBytes).startLsn;
    lsn <= last;
    lsn += BigInt(segmentBytes)
  ) {
    names.push(segmentName({ timeline, startLsn: lsn }, segmentBytes));
  }
  return names;
}

/**
 * Fails with `server-settings` where nothing archives the server and nothing ever did into this repository: its WAL would
 * be waited for in vain.
 */
export async function assertWalWillCome(
  { repository, signal }: { repository: RepositoryReader; signal: AbortSignal },
  { server, archiving }: Pick<InstanceFacts, "server" | "archiving">,
  instance: string,
): Promise<void> {
  if (archiving.on || (await hasWal(repository, { instance, systemId: server.systemId }, { signal }))) return;
  const why = archiving.mode === "off" ? "archive_mode is off" : "there is no archive_command";
  const message = `the WAL of instance ${instance} does not come to ${repository.where}: ${why}, and none was streamed`;
  throw new PgkitError("server-settings", message, {
    hint: "set up archiving by pgkit pitr enable, or store the WAL in the backup by --with-wal",
  });
}

async function hasWal(repository: RepositoryReader, lineage: Lineage, options: SignalOption): Promise<boolean> {
  for await (const _ of listWal(repository, lineage, options)) return true;
  return false;
}

async function isStored(
  repository: RepositoryReader,
  wal: NeededWal,
  name: string,
  options: SignalOption,
): Promise<boolean> {
  if ((await findWal(repository, wal.lineage, name, options)) !== undefined) return true;
  const stopLsn = parseLsn(wal.stopLsn);
  const { startLsn } = segmentAt(wal.timeline, stopLsn - 1n, wal.segmentBytes);
  if (name !== segmentName({ timeline: wal.timeline, startLsn }, wal.segmentBytes)) return false;
  const partial = await findWal(repository, wal.lineage, `${name}.partial`, options);
  if (partial === undefined) return false;
  // Its zeros at the end are left out, so this is true at the latest when something follows the stop, as a switch does.
  return startLsn + BigInt((await readWal(repository, partial, options)).length) >= stopLsn;
}

function notStored(
  { where }: RepositoryReader,
  names: readonly string[],
  missing: number,
  timeoutMs: number,
): PgkitError {
  const count = names.length === 1 ? "one segment" : `${names.length} segments`;
  const message = `WAL segment ${names[missing]} did not come to ${where} within ${timeoutMs / 1000}s: the backup needs ${count} and has ${missing}`;
  return new PgkitError("wal-missing", message, {
    hint: "does the server archive here? pgkit pitr status tells; --wal-timeout waits longer, --with-wal needs no archive",
  });
}
