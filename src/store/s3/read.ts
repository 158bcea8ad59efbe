import { Readable } from "node:stream";
import {
  GetObjectCommand,
  type GetObjectCommandOutput,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
} from "@aws-sdk/client-s3";
import { isPgkitError, PgkitError } from "../../lib/errors.ts";
import { objectBody } from "../body.ts";
import { assertKey } from "../key.ts";
import type { GetOptions, ObjectBody, ObjectInfo, SignalOption } from "../store.ts";
import { answerOf } from "./errors.ts";
import type { S3Link } from "./link.ts";
import { readEncryption } from "./write-input.ts";

/** See `ObjectReader.get`. */
export async function getObject(link: S3Link, key: string, options: GetOptions): Promise<ObjectBody> {
  assertKey(key);
  const what = `reading ${key}`;
  const { range, etag, signal } = options;
  const input = {
    Bucket: link.bucket,
    Key: link.prefix + key,
    ...(range === undefined ? {} : { Range: rangeHeader(range) }),
    ...(etag === undefined ? {} : { IfMatch: `"${etag}"` }),
    ...readEncryption(link.config),
  };
  try {
    const found = await link.request(what, signal, (send) => link.client.send(new GetObjectCommand(input), send));
    return bodyOf(link, key, found, options);
  } catch (error) {
    const answer = answerOf(error);
    if (answer?.name === "InvalidRange" || answer?.status === 416) return await emptyBody(link, key, options);
    if (isPgkitError(error, "condition-failed")) throw changed(link, key);
    throw error;
  }
}

function rangeHeader({ first, last }: { first: number; last: number }): string {
  return `bytes=${first}-${last >= Number.MAX_SAFE_INTEGER ? "" : last}`;
}

function bodyOf(link: S3Link, key: string, found: GetObjectCommandOutput, options: GetOptions): ObjectBody {
  const { Body: source, ContentLength: bytes, ContentRange: contentRange, VersionId: version } = found;
  link.known.bucket = true;
  link.known.versioned ??= version !== undefined;
  if (!(source instanceof Readable) || bytes === undefined) {
    throw new PgkitError("store-failed", `${link.where} gave ${key} without saying how long it is`);
  }
  try {
    const etag = bareEtag(found.ETag);
    if (options.etag !== undefined && options.etag !== etag) throw changed(link, key);
    if (options.range !== undefined) assertRange(link, key, options.range, contentRange, bytes);
    const fail = (error: unknown, read: number) =>
      new PgkitError("store-failed", `${key} in ${link.where} was cut after ${read} of ${bytes} bytes: ${said(error)}`);
    return objectBody(source, {
      key,
      etag,
      bytes,
      fail,
      signal: options.signal,
      idleMs: link.config.idleTimeoutMs ?? 60_000,
    });
  } catch (error) {
    source.on("error", () => undefined).destroy();
    throw error;
  }
}

/** A server that knows no ranges would give the whole object, and its first bytes would be taken for the wanted ones. */
function assertRange(
  link: S3Link,
  key: string,
  { first, last }: { first: number; last: number },
  header: string | undefined,
  bytes: number,
): void {
  const [, from, , total] = /^bytes (\d+)-(\d+)\/(\d+)$/.exec(header ?? "") ?? [];
  const wanted = Math.min(last, Number(total) - 1) - first + 1;
  if (Number(from) === first && bytes === wanted) return;
  const got = header === undefined ? `${bytes} bytes` : header;
  throw new PgkitError(
    "store-failed",
    `${link.where} was asked for bytes ${first} to ${last} of ${key} and gave ${got}`,
  );
}

/** The server said that the range begins past the end: there is nothing to give but the version. */
async function emptyBody(link: S3Link, key: string, { etag, signal }: GetOptions): Promise<ObjectBody> {
  const found = await headObject(link, key, { signal });
  if (found === undefined) throw new PgkitError("object-missing", `${link.where} has no ${key}`);
  if (etag !== undefined && etag !== found.etag) throw changed(link, key);
  return Object.assign(Readable.from([], { objectMode: false }), { etag: found.etag });
}

/** See `ObjectReader.head`. */
export async function headObject(link: S3Link, key: string, { signal }: SignalOption): Promise<ObjectInfo | undefined> {
  const found = await rawHead(link, key, signal);
  return found && infoOf(key, found);
}

/** What HEAD says of the object, in the SDK's words; undefined only where the server said that it is not there. */
export async function rawHead(
  link: S3Link,
  key: string,
  signal: AbortSignal | undefined,
  checksums = false,
): Promise<HeadObjectCommandOutput | undefined> {
  assertKey(key);
  const input = {
    Bucket: link.bucket,
    Key: link.prefix + key,
    ...(checksums ? { ChecksumMode: "ENABLED" as const } : {}),
    ...readEncryption(link.config),
  };
  const ask = () =>
    link.request(`looking for ${key}`, signal, (send) => link.client.send(new HeadObjectCommand(input), send));
  try {
    const found = await ask();
    link.known.bucket = true;
    link.known.versioned ??= found.VersionId !== undefined;
    return found;
  } catch (error) {
    if (answerOf(error)?.status !== 404) throw error;
    return (await isReallyMissing(link, key, signal)) ? undefined : await ask();
  }
}

/**
 * The answer to HEAD has no body, so that 404 may as well mean a missing bucket, or a web server that is no S3. Until
 * the bucket has been seen, a GET for one byte asks again: its answer has a code.
 */
async function isReallyMissing(link: S3Link, key: string, signal: AbortSignal | undefined): Promise<boolean> {
  if (link.known.bucket === true) return true;
  try {
    const body = await getObject(link, key, { range: { first: 0, last: 0 }, signal });
    body.destroy();
    return false;
  } catch (error) {
    if (!isPgkitError(error, "object-missing")) throw error;
    link.known.bucket = true;
    return true;
  }
}

function infoOf(key: string, found: HeadObjectCommandOutput): ObjectInfo {
  const until = found.ObjectLockRetainUntilDate;
  return {
    key,
    bytes: found.ContentLength ?? 0,
    etag: bareEtag(found.ETag),
    modifiedAt: found.LastModified ?? new Date(0),
    ...(until === undefined ? {} : { retainedUntil: until }),
  };
}

/** Etags come in quotes, which some servers leave out in lists. */
export function bareEtag(etag: string | undefined): string {
  return (etag ?? "").replaceAll('"', "");
}

function changed(link: S3Link, key: string): PgkitError {
  return new PgkitError("condition-failed", `${key} in ${link.where} was changed by another`);
}

function said(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
