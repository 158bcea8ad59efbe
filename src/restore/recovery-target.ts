import { formatLsn, type Lsn } from "../lib/lsn.ts";

/** Where recovery shall end. `inclusive` is whether what happened exactly there is part of it. */
export type RecoveryTarget =
  | { type: "latest" }
  /** As soon as the base backup is consistent. */
  | { type: "immediate" }
  /** A restore point, made by pg_create_restore_point. */
  | { type: "name"; name: string }
  /** `text` is the moment in RFC 3339 UTC to the microsecond, `time` the same to the millisecond. */
  | { type: "time"; time: Date; text: string; inclusive: boolean }
  | { type: "lsn"; lsn: Lsn; inclusive: boolean }
  | { type: "xid"; xid: string; inclusive: boolean };

/** What the recovered server does at the target. */
export type RecoveryAction = "promote" | "pause" | "shutdown";

/** `latest`: the newest timeline that can be reached; `current`: that of the base backup. */
export type TimelineChoice = "latest" | "current" | number;

/** `the moment 2026-11-21T02:00:00Z`: for messages. */
export function describeTarget(target: RecoveryTarget): string {
  switch (target.type) {
    case "latest":
      return "the end of all stored WAL";
    case "immediate":
      return "the end of the base backup";
    case "name":
      return `the restore point "${target.name}"`;
    case "time":
      return `the moment ${target.text}${target.inclusive ? "" : " (exclusive)"}`;
    case "lsn":
      return `the WAL position ${formatLsn(target.lsn)}${target.inclusive ? "" : " (exclusive)"}`;
    case "xid":
      return `transaction ${target.xid}${target.inclusive ? "" : " (exclusive)"}`;
  }
}

/** The target as JSON has it. */
export function targetJson(target: RecoveryTarget): Record<string, unknown> {
  if (target.type === "time") return { type: "time", time: target.text, inclusive: target.inclusive };
  if (target.type === "lsn") return { ...target, lsn: formatLsn(target.lsn) };
  return { ...target };
}

/** Microseconds since 1970 of an RFC 3339 time in UTC, rounded down: what PostgreSQL compares is not finer. */
export function microseconds(text: string): bigint {
  const fraction = /\.(\d+)/.exec(text)?.[1] ?? "";
  const seconds = new Date(text.replace(/\.\d+/, "")).getTime() / 1000;
  return BigInt(seconds) * 1_000_000n + BigInt(fraction.slice(0, 6).padEnd(6, "0"));
}

/** RFC 3339 in UTC, with as many digits as it needs. */
export function momentText(microsecondsSince1970: bigint): string {
  const [seconds, rest] = [microsecondsSince1970 / 1_000_000n, microsecondsSince1970 % 1_000_000n];
  const whole = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  return rest === 0n ? `${whole}Z` : `${whole}.${String(rest).padStart(6, "0")}Z`;
}
