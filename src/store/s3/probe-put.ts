import { PutObjectCommand, type PutObjectCommandInput, type PutObjectCommandOutput } from "@aws-sdk/client-s3";
import { isPgkitError } from "../../lib/errors.ts";
import { answerOf } from "./errors.ts";
import type { S3Link } from "./link.ts";
import { writeSettings } from "./write-input.ts";

/** Puts `key` itself as content; gives undefined where the server refused `input`, and else what it answered. */
export async function putProbe(
  link: S3Link,
  key: string,
  input: Partial<PutObjectCommandInput>,
): Promise<PutObjectCommandOutput | undefined> {
  const whole = { Bucket: link.bucket, Key: link.prefix + key, Body: Buffer.from(key), ...writeSettings(link.config) };
  return await unlessRefused(
    link.request(`trying ${key}`, undefined, (send) =>
      link.client.send(new PutObjectCommand({ ...whole, ...input }), send),
    ),
  );
}

/** `work`, or undefined where the server understood it and would not. */
export async function unlessRefused<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (isRefusal(error)) return undefined;
    throw error;
  }
}

const refusals = [400, 404, 405, 409, 411, 412, 501];

/** Of a condition that does not hold, a checksum that differs, or a header that the server does not know. */
export function isRefusal(error: unknown): boolean {
  if (isPgkitError(error, "store-denied", "repository-missing", "store-unreachable", "config")) return false;
  return refusals.includes(answerOf(error)?.status ?? 0);
}
