import { PgkitError } from "../lib/errors.ts";
import { parseLsn } from "../lib/lsn.ts";
import type { Moment } from "../lib/parse-time.ts";
import type { RecoveryRequest } from "./recovery-plan.ts";
import {
  microseconds,
  momentText,
  type RecoveryAction,
  type RecoveryTarget,
  type TimelineChoice,
} from "./recovery-target.ts";

/** What a user says of where recovery shall end, as it was typed. */
export interface RecoveryWishes {
  toTime?: Moment | undefined;
  toLsn?: string | undefined;
  toXid?: string | undefined;
  toName?: string | undefined;
  immediate?: boolean | undefined;
  latest?: boolean | undefined;
  exclusive?: boolean | undefined;
  /** `latest`, `current` or a number; as PostgreSQL names them in WAL files, also `0x1A`. */
  timeline?: string | undefined;
  action?: RecoveryAction | undefined;
  backup?: string | undefined;
  systemId?: string | undefined;
  timeZone?: string | undefined;
}

/** The request that is meant. Without a target it is the latest; without an action, to promote. Fails with `usage` for flags that contradict each other. */
export function recoveryRequest(wishes: RecoveryWishes): RecoveryRequest {
  const target = oneTarget(wishes);
  const { action = "promote", backup, systemId, timeZone } = wishes;
  if (wishes.exclusive === true && !("inclusive" in target)) {
    throw new PgkitError("usage", "--exclusive goes with --to-time, --to-lsn or --to-xid", {
      hint: "it ends recovery right before what is named there",
    });
  }
  if (target.type === "latest" && action !== "promote") {
    throw new PgkitError(
      "usage",
      `--action ${action} needs a target: PostgreSQL always promotes at the end of the WAL`,
      {
        hint: "give --to-time, --to-lsn, --to-xid, --to-name or --immediate; --dry-run shows the latest position",
      },
    );
  }
  return { target, action, timeline: timelineChoice(wishes.timeline), backup, systemId, timeZone };
}

function oneTarget(wishes: RecoveryWishes): RecoveryTarget {
  const inclusive = wishes.exclusive !== true;
  const given: [flag: string, target: () => RecoveryTarget][] = [];
  const { toTime, toLsn, toXid, toName } = wishes;
  if (toTime !== undefined) given.push(["--to-time", () => timeTarget(toTime, inclusive)]);
  if (toLsn !== undefined) given.push(["--to-lsn", () => ({ type: "lsn", lsn: parseLsn(toLsn), inclusive })]);
  if (toXid !== undefined) given.push(["--to-xid", () => ({ type: "xid", xid: transactionId(toXid), inclusive })]);
  if (toName !== undefined) given.push(["--to-name", () => ({ type: "name", name: restorePoint(toName) })]);
  if (wishes.immediate === true) given.push(["--immediate", () => ({ type: "immediate" })]);
  if (wishes.latest === true) given.push(["--latest", () => ({ type: "latest" })]);
  const [first, ...others] = given;
  if (others.length === 0) return first?.[1]() ?? { type: "latest" };
  throw new PgkitError("usage", `${given.map(([flag]) => flag).join(" and ")} cannot be used together`, {
    hint: "recovery ends at one target: which one is meant?",
  });
}

function timeTarget({ time, exact }: Moment, inclusive: boolean): RecoveryTarget {
  return { type: "time", time, text: momentText(microseconds(exact)), inclusive };
}

/** Of 32 bits to PostgreSQL; pg_current_xact_id() gives it with its epoch, which recovery leaves out. */
function transactionId(text: string): string {
  const number = /^\d{1,20}$/.test(text) ? BigInt(text) & 0xffff_ffffn : 0n;
  if (number >= 3n) return String(number);
  throw new PgkitError("usage", `"${text}" is not a transaction id`, {
    hint: "pg_current_xact_id() gives it, and the server's log where log_line_prefix has %x",
  });
}

function restorePoint(name: string): string {
  if (Buffer.byteLength(name) <= 63 && !/[\r\n\0]/.test(name)) return name;
  throw new PgkitError("usage", "the name of a restore point has at most 63 bytes and no line ends", {
    hint: "pg_create_restore_point() takes no other either",
  });
}

function timelineChoice(text: string | undefined): TimelineChoice {
  if (text === undefined || text === "latest") return "latest";
  if (text === "current") return "current";
  const number = /^(\d{1,10}|0x[0-9a-f]{1,8})$/i.test(text) ? Number(text) : 0;
  if (number >= 1 && number <= 0xffff_ffff) return number;
  throw new PgkitError("usage", `"${text}" is not a timeline`, { hint: "latest, current, or a number such as 2" });
}
