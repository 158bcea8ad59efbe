import * as v from "valibot";
import { PgkitError } from "../lib/errors.ts";
import { formatLsn, type Lsn, parseLsn } from "../lib/lsn.ts";

const walFormat = 1;
const Time = v.pipe(v.string(), v.isoTimestamp());
const Count = v.pipe(v.number(), v.integer(), v.minValue(1));
const Position = v.pipe(v.string(), v.regex(/^[0-9A-Fa-f]{1,8}\/[0-9A-Fa-f]{1,8}$/));

const LineageRecord = v.object({
  format: v.number(),
  instance: v.string(),
  systemId: v.string(),
  segmentBytes: Count,
  serverVersion: v.string(),
  createdAt: Time,
});

const GapRecordFile = v.object({
  format: v.number(),
  timeline: Count,
  fromLsn: Position,
  toLsn: Position,
  reason: v.string(),
  recordedAt: Time,
});

/** A lineage as it is recorded, without the format. */
type LineageFields = Omit<v.InferOutput<typeof LineageRecord>, "format">;

/** WAL that was given up on purpose: from the first byte that is missing to the first that is there again. */
export interface Gap {
  timeline: number;
  fromLsn: Lsn;
  toLsn: Lsn;
  reason: string;
}

/** Fails with `manifest-corrupt`, or with `format-unsupported` for what a newer pgkit wrote. */
export function parseLineage(text: string, where: string): LineageFields {
  const { format: _, ...facts } = parse(LineageRecord, text, where);
  return facts;
}

export function formatLineage(facts: LineageFields): Uint8Array {
  return format({ format: walFormat, ...facts });
}

/** Fails as `parseLineage` does. */
export function parseGap(text: string, where: string): Gap & { recordedAt: string } {
  const { timeline, fromLsn, toLsn, reason, recordedAt } = parse(GapRecordFile, text, where);
  return { timeline, fromLsn: parseLsn(fromLsn), toLsn: parseLsn(toLsn), reason, recordedAt };
}

export function formatGap({ timeline, fromLsn, toLsn, reason }: Gap, recordedAt: string): Uint8Array {
  const lsns = { fromLsn: formatLsn(fromLsn), toLsn: formatLsn(toLsn) };
  return format({ format: walFormat, timeline, ...lsns, reason, recordedAt });
}

function parse<T extends { format: number }>(schema: v.GenericSchema<unknown, T>, text: string, where: string): T {
  const found = v.safeParse(v.pipe(v.string(), v.parseJson(), schema), text);
  if (!found.success) {
    throw new PgkitError("manifest-corrupt", `${where} cannot be read: ${found.issues[0].message}`, {
      hint: "it was cut or changed after it was written; is another copy of the repository at hand?",
    });
  }
  if (found.output.format <= walFormat) return found.output;
  const message = `${where} is of format ${found.output.format}, this pgkit knows up to ${walFormat}`;
  throw new PgkitError("format-unsupported", message, { hint: "use the pgkit that wrote it, or a newer one" });
}

function format(record: Record<string, unknown>): Uint8Array {
  return Buffer.from(`${JSON.stringify(record, undefined, 2)}\n`);
}
