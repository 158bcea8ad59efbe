import { formatDuration } from "../../lib/parse.ts";
import type { Found } from "../ledger.ts";

const noticeableMs = 60_000;
const tooMuchMs = 300_000;

/**
 * Tells how far a clock is from ours; `skewMs` is positive where ours is behind. Above five minutes it is an error
 * where `signed`: S3 refuses requests that are signed at a time too far from its own.
 */
export function tellSkew(found: Found, skewMs: number, { of, signed = false }: { of: string; signed?: boolean }) {
  const far = Math.abs(skewMs);
  if (far <= noticeableMs)
    return found.ok(`the clocks of this machine and of ${of} agree to ${formatDuration(Math.max(far, 100))}`);
  const message = `the clock of this machine is ${formatDuration(far)} ${skewMs > 0 ? "behind" : "ahead of"} that of ${of}`;
  const remedy = "set the clocks by NTP (chrony, systemd-timesyncd); timedatectl shows whether this machine's is";
  if (signed && far > tooMuchMs)
    found.error(`${message}: S3 refuses what is signed at another time`, remedy, "store-unreachable");
  else found.warning(message, remedy);
}
