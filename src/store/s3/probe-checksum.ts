import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import { type ChecksumMode, crcHeader, crcText, sumOf } from "./checksum.ts";
import type { S3Link } from "./link.ts";
import { withUpload } from "./probe-multipart.ts";
import { putProbe } from "./probe-put.ts";
import { rawHead } from "./read.ts";

/** The best checksum that the server checks, in whole objects and in parts, and gives back. */
export async function probeChecksum(link: S3Link, key: string): Promise<ChecksumMode> {
  const wanted = link.config.checksum ?? "auto";
  if ((wanted === "auto" || wanted === "crc32") && (await knowsCrc32(link, key))) return "crc32";
  if ((wanted === "auto" || wanted === "md5") && (await knowsMd5(link, key))) return "md5";
  return "none";
}

/** A server that only echoes would give back the wrong one as well, and so must have refused it. */
async function knowsCrc32(link: S3Link, key: string): Promise<boolean> {
  const right = crc32(Buffer.from(key));
  const wrong = crcText((right ^ 1) >>> 0);
  if ((await putProbe(link, key, crcHeader(wrong))) !== undefined) return false;
  const stored = await putProbe(link, key, crcHeader(crcText(right)));
  if (stored?.ChecksumCRC32 !== crcText(right)) return false;
  const found = await rawHead(link, key, undefined, true);
  if (found?.ChecksumCRC32 !== crcText(right)) return false;
  return await knowsCrc32OfWhole(link, key, crcText(right), wrong);
}

async function knowsCrc32OfWhole(link: S3Link, key: string, right: string, wrong: string): Promise<boolean> {
  const kind = { ChecksumAlgorithm: "CRC32", ChecksumType: "FULL_OBJECT" } as const;
  const known = await withUpload(link, key, kind, async (upload) => {
    if ((await upload.part(crcHeader(wrong))) !== undefined) return false;
    const part = await upload.part(crcHeader(right));
    const parts = [{ PartNumber: 1, ETag: part?.ETag, ChecksumCRC32: right }];
    const whole = { MultipartUpload: { Parts: parts }, ChecksumType: "FULL_OBJECT" } as const;
    if ((await upload.complete({ ...whole, ChecksumCRC32: wrong })) !== undefined) return false;
    return (await upload.complete({ ...whole, ChecksumCRC32: right }))?.ChecksumCRC32 === right;
  });
  return known === true;
}

async function knowsMd5(link: S3Link, key: string): Promise<boolean> {
  const right = sumOf("md5", Buffer.from(key));
  const wrong = { ContentMD5: createHash("md5").update("other bytes").digest("base64") };
  if ((await putProbe(link, key, wrong)) !== undefined) return false;
  const stored = await putProbe(link, key, right.header);
  if (stored === undefined || !right.proves(stored)) return false;
  const known = await withUpload(link, key, {}, async (upload) => {
    if ((await upload.part(wrong)) !== undefined) return false;
    const part = await upload.part(right.header);
    return part !== undefined && right.proves(part);
  });
  return known === true;
}
