import type { Lsn } from "../lib/lsn.ts";
import { crc32c } from "./segment-crc.ts";
import type { WalRecord } from "./segment-records.ts";

/** The end of a transaction in the WAL, which is what recovery compares its targets with. */
export interface Transaction {
  /** When it committed or aborted by the server's clock, to the millisecond, rounded down. */
  time: Date;
  /** The same to the microsecond: RFC 3339 in UTC. */
  timeText: string;
  /** Where its record begins, and where it ends. */
  lsn: Lsn;
  endLsn: Lsn;
  xid: number;
  outcome: "commit" | "abort";
}

/** What xact.h calls XLOG_XACT_COMMIT, ABORT, COMMIT_PREPARED and ABORT_PREPARED. */
const outcomes: ReadonlyMap<number, { outcome: Transaction["outcome"]; prepared: boolean }> = new Map([
  [0x00, { outcome: "commit", prepared: false }],
  [0x20, { outcome: "abort", prepared: false }],
  [0x30, { outcome: "commit", prepared: true }],
  [0x40, { outcome: "abort", prepared: true }],
]);

const transactionManager = 1;
const opcodeMask = 0x70;
const hasInfo = 0x80;
const recordHeaderBytes = 24;
const crcAt = 20;
const dataShort = 255;
const dataLong = 254;
const dataOrigin = 253;
const postgresEpochMs = 946_684_800_000;

/** The transaction that a record ends, `undefined` for any other record, and for one whose checksum is wrong. */
export function transactionOf(record: WalRecord, major: number | undefined): Transaction | undefined {
  if (record.resourceManager !== transactionManager) return undefined;
  const kind = outcomes.get(record.info & opcodeMask);
  const data = kind && mainData(record.bytes);
  if (kind === undefined || data === undefined || data.length < 8 || !isIntact(record.bytes)) return undefined;
  const micros = data.readBigInt64LE(0);
  const seconds = new Date(postgresEpochMs + Number(micros / 1000n));
  const xid = kind.prepared ? preparedXid(data, record.info, major) : record.xid;
  return {
    time: seconds,
    timeText: microText(micros),
    lsn: record.lsn,
    endLsn: record.endLsn,
    xid,
    outcome: kind.outcome,
  };
}

/** The checksum covers the data first and then the header up to itself. */
export function isIntact(bytes: Buffer): boolean {
  return crc32c(bytes.subarray(recordHeaderBytes), bytes.subarray(0, crcAt)) === bytes.readUInt32LE(crcAt);
}

/** The data of a record that has no blocks, as those of transactions and tablespaces: after its header come at most an origin and the length of its data. */
export function mainData(bytes: Buffer): Buffer | undefined {
  let at = recordHeaderBytes;
  if (bytes[at] === dataOrigin) at += 3;
  const id = bytes[at];
  const length = id === dataShort ? bytes[at + 1] : id === dataLong ? bytes.readUInt32LE(at + 1) : undefined;
  return length === undefined || length > bytes.length ? undefined : bytes.subarray(bytes.length - length);
}

/** `2026-11-21T02:00:00.123456Z` for microseconds since 2000. */
function microText(micros: bigint): string {
  const time = new Date(postgresEpochMs + Number(micros / 1000n));
  return `${time.toISOString().slice(0, -1)}${String(micros % 1000n).padStart(3, "0")}Z`;
}

/**
 * The transaction that a COMMIT PREPARED ends is not the one that says so: its number comes after the lists that xact.h
 * puts before it, each with its length first. Which of them there are is told by flags.
 */
function preparedXid(data: Buffer, info: number, major: number | undefined): number {
  if ((info & hasInfo) === 0 || data.length < 12) return 0;
  const flags = data.readUInt32LE(8);
  const statsBytes = major !== undefined && major >= 18 ? 16 : 12;
  let at = 12 + ((flags & 0x1) === 0 ? 0 : 8);
  for (const [flag, itemBytes] of [
    [0x2, 4],
    [0x4, 12],
    [0x100, statsBytes],
    [0x8, 16],
  ] as const) {
    if ((flags & flag) === 0) continue;
    if (data.length < at + 4) return 0;
    at += 4 + data.readUInt32LE(at) * itemBytes;
  }
  return (flags & 0x10) === 0 || data.length < at + 4 ? 0 : data.readUInt32LE(at);
}
