import { PgkitError } from "../../lib/errors.ts";
import type { PartPool } from "../part-pool.ts";
import type { Condition } from "../store.ts";
import type { ChecksumMode } from "./checksum.ts";
import type { S3Link } from "./link.ts";
import type { S3Probes } from "./probe.ts";
import type { ConditionHeader } from "./write-input.ts";

/** What writing needs beyond the link: what the server can do, asked once, and memory for parts. */
export interface S3Writer {
  link: S3Link;
  probes: S3Probes;
  pool: PartPool;
  partBytes: number;
}

/** One write, decided on before its first byte. */
export interface S3Write {
  key: string;
  /** Written into the object's metadata, by which a write whose answer was lost knows itself again. */
  id: string;
  mode: ChecksumMode;
  when: Condition | undefined;
  /** What makes the server keep it. */
  condition: ConditionHeader;
  retainUntil: Date | undefined;
  signal: AbortSignal | undefined;
}

/** What came of it. */
export interface S3Written {
  etag: string;
  bytes: number;
  proven: boolean;
  versionId: string | undefined;
}

export const writeIdName = "pgkit-write";

export function failedCondition(link: S3Link, { key, when }: S3Write, cause: unknown): PgkitError {
  const what = when === "absent" ? "is there already" : "was changed by another";
  return new PgkitError("condition-failed", `${key} ${what} in ${link.where}`, { cause });
}
