import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { knownTimelines } from "./recovery-path.ts";
import type { RecoveryPlan, RecoveryRequest } from "./recovery-plan.ts";
import type { ServerHistory } from "./recovery-server.ts";

/**
 * What `plan` gives. Where the timeline that it takes has not the moment or position that is wanted, while another one
 * that is stored has, its refusal names that one first: a copy that was promoted and archived into the same repository has
 * the newest timeline, and ends long before the instance itself.
 */
export function namingOthers(
  server: ServerHistory,
  request: RecoveryRequest,
  plan: (request: RecoveryRequest) => RecoveryPlan,
): RecoveryPlan {
  try {
    return plan(request);
  } catch (error) {
    const { type } = request.target;
    if (!isPgkitError(error, ...elsewhere) || (type !== "time" && type !== "lsn")) throw error;
    const others = timelinesOf(server).filter((timeline) => reaches(() => plan({ ...request, timeline })));
    if (others.length === 0) throw error;
    const named = others.map((timeline) => `--timeline ${timeline}`).join(" or ");
    const has = `timeline ${others.join(" and ")} ${others.length === 1 ? "has" : "have"} it: ${named}`;
    throw new PgkitError(error.code, error.message, { hint: `${has}; else ${error.hint}`, cause: error.cause });
  }
}

const elsewhere = ["target-not-archived", "wal-gap", "no-backup-for-target"] as const;

/** The one that was refused is among them, and is refused again. */
function timelinesOf({ wal, backups }: ServerHistory): number[] {
  const bases = backups.map(({ base }) => base);
  return knownTimelines(wal, bases);
}

function reaches(plan: () => RecoveryPlan): boolean {
  try {
    plan();
    return true;
  } catch (error) {
    if (isPgkitError(error)) return false;
    throw error;
  }
}
