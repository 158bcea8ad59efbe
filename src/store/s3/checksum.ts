import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";

/** The checksum that the server was seen to check and to give back. */
export type ChecksumMode = "crc32" | "md5" | "none";

/** What a write answers with: quotes and all, as the SDK gives it. */
export interface Answered {
  ETag?: string | undefined;
  ChecksumCRC32?: string | undefined;
}

/** Of one request's bytes. */
export interface Sum {
  /** For the request: the server refuses bytes that arrived otherwise. */
  header: { ContentMD5?: string; ChecksumCRC32?: string; ChecksumAlgorithm?: "CRC32" };
  /** True when the server computed the same over what it stored. */
  proves: (answer: Answered) => boolean;
  md5: Buffer | undefined;
}

export function sumOf(mode: ChecksumMode, bytes: Buffer): Sum {
  if (mode === "none") return { header: {}, proves: () => false, md5: undefined };
  if (mode === "crc32") {
    const value = crcText(crc32(bytes));
    const proves = (answer: Answered) => answer.ChecksumCRC32 === value;
    return { header: crcHeader(value), proves, md5: undefined };
  }
  const md5 = createHash("md5").update(bytes).digest();
  const etag = `"${md5.toString("hex")}"`;
  return { header: { ContentMD5: md5.toString("base64") }, proves: ({ ETag }) => quoted(ETag) === etag, md5 };
}

/** Of an object that goes up in parts, told of each in order. */
export interface RunningSum {
  add(bytes: Buffer, sum: Sum): void;
  /** For the request that completes the object. */
  header(): { ChecksumCRC32?: string; ChecksumType?: "FULL_OBJECT" };
  proves(answer: Answered): boolean;
}

export function runningSum(mode: ChecksumMode): RunningSum {
  let crc = 0;
  let parts = 0;
  const md5OfMd5s = createHash("md5");
  return {
    add(bytes, { md5 }) {
      parts += 1;
      if (mode === "crc32") crc = crc32(bytes, crc);
      if (md5 !== undefined) md5OfMd5s.update(md5);
    },
    header: () => (mode === "crc32" ? { ChecksumCRC32: crcText(crc), ChecksumType: "FULL_OBJECT" } : {}),
    proves(answer) {
      if (mode === "crc32") return answer.ChecksumCRC32 === crcText(crc);
      // Each part was checked by its own MD5 as it arrived; this says that those parts were put together, in order.
      return mode === "md5" && quoted(answer.ETag) === `"${md5OfMd5s.copy().digest("hex")}-${parts}"`;
    },
  };
}

/** Ceph 20 minds the checksum only where its algorithm is named as well. */
export function crcHeader(value: string): { ChecksumCRC32: string; ChecksumAlgorithm: "CRC32" } {
  return { ChecksumCRC32: value, ChecksumAlgorithm: "CRC32" };
}

/** A CRC32 as S3 writes it: four bytes, the highest first, in base64. */
export function crcText(value: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes.toString("base64");
}

function quoted(etag: string | undefined): string {
  return `"${(etag ?? "").replaceAll('"', "")}"`;
}
