import { isPgkitError } from "../lib/errors.ts";
import { formatLsn, type Lsn, segmentAt } from "../lib/lsn.ts";
import { formatBytes } from "../lib/parse.ts";
import type { Session } from "../postgres/session.ts";
import { dropSlot, readSlot } from "../postgres/slot.ts";
import { readLineage } from "../repo/wal.ts";
import { readWalInventory } from "../repo/wal-inventory.ts";
import { lastStoredTransaction } from "./segment-stored.ts";
import type { Stream, Streamer } from "./stream-context.ts";
import { saveLosses } from "./stream-loss.ts";
import { enterState } from "./stream-monitor.ts";
import { pause } from "./stream-retry.ts";
import { type HeldSlot, holdSlot, type StartPoint } from "./stream-start.ts";

/**
 * With `onFull: gap`, and only where a repository does not take WAL: drops the slot when the server holds `alertBytes` for
 * it, so that its disk does not fill up. True when it did.
 */
export async function giveUpSlot(streamer: Streamer, stream: Stream, session: Session): Promise<boolean> {
  const { request, retainedBytes = 0 } = streamer;
  if (request.onFull !== "gap" || retainedBytes < request.alertBytes || !hasStoreTrouble(streamer, stream))
    return false;
  await dropSlot(session, request.slot);
  enterState(streamer, "given-up");
  const message = `ALERT: the slot ${request.slot} was dropped (onFull: gap): ${formatBytes(retainedBytes)} of WAL could not be stored, and the server may remove it now`;
  const hint = "when the repository works again, what is lost is recorded as a gap, and a new base backup is taken";
  request.report({ type: "warning", message, hint });
  return true;
}

/** While the slot is given up: waits until every repository takes WAL again. */
export async function untilStoresWork(streamer: Streamer): Promise<void> {
  const { request, stop, stream } = streamer;
  while (streamer.state === "given-up" && stream !== undefined && hasStoreTrouble(streamer, stream) && !stop.aborted) {
    await pause(request.clock, 1_000, stop);
  }
}

function hasStoreTrouble({ troubles }: Streamer, { destinations }: Stream): boolean {
  return destinations.some(({ repository }) => troubles.has(repository.where));
}

/**
 * The server has removed the segment that was to come next: what is missing ends where the slot's WAL begins. Gives that
 * place, the start of a segment; `undefined` when nothing can be missing.
 */
export async function noteLoss(
  streamer: Streamer,
  stream: Stream,
  session: Session,
  slot: HeldSlot,
  start: StartPoint,
): Promise<Lsn | undefined> {
  const { request } = streamer;
  const { segmentBytes } = stream.folder;
  const now = await readSlot(session, request.slot);
  const held = now?.restartLsn === undefined || now.walStatus === "lost" ? await holdSlot(session, streamer) : slot;
  const toLsn = segmentAt(1, held.restartLsn, segmentBytes).startLsn;
  if (toLsn <= start.lsn) return undefined;
  const fromLsn = lastStored(stream, start.lsn, BigInt(segmentBytes));
  const reason = `the server had removed it before it was stored (slot ${request.slot})`;
  stream.losses.lost.push({ timeline: start.timeline, fromLsn, toLsn, reason, recordedIn: [] });
  const taken = request.onFull === "gap" && request.takeBaseBackup !== undefined;
  stream.losses.baseBackupDue ||= taken;
  await saveLosses(stream.losses);
  const message = `ALERT, slot-lost: WAL of ${request.instance} from ${formatLsn(fromLsn)} to ${formatLsn(toLsn)} on timeline ${start.timeline} is lost: the server removed it before it was stored; ${await lastBefore(stream, start)}`;
  const hint = `no moment behind ${formatLsn(fromLsn)} can be restored until there is a new base backup: ${taken ? "it is taken now" : "pgkit backup base"}`;
  request.report({ type: "warning", message, hint });
  return toLsn;
}

/** Within the segment that comes next a part may be stored already. */
function lastStored({ destinations }: Stream, startLsn: Lsn, segmentBytes: bigint): Lsn {
  const inside = destinations.flatMap(({ position }) =>
    position !== undefined && position.lsn > startLsn && position.lsn < startLsn + segmentBytes ? [position.lsn] : [],
  );
  return inside.reduce((a, b) => (b > a ? b : a), startLsn);
}

/** For people: what is recorded is the position. */
async function lastBefore({ destinations, lineage }: Stream, { timeline, lsn }: StartPoint): Promise<string> {
  const repository = destinations[0]?.repository;
  const facts = repository && (await readLineage(repository, lineage));
  if (repository === undefined || facts === undefined) return "nothing was stored before it";
  try {
    const inventory = await readWalInventory(repository, facts);
    const back = lsn - 8n * BigInt(facts.segmentBytes);
    const last = await lastStoredTransaction(repository, inventory, timeline, { sinceLsn: back > 0n ? back : 0n });
    return last === undefined
      ? "no transaction is in the last segments before it"
      : `the last transaction before it was at ${last.timeText}`;
  } catch (error) {
    if (!isPgkitError(error, "identity-required", "identity-wrong")) throw error;
    return "when the last transaction before it was cannot be read without the age identity";
  }
}
