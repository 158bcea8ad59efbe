import { DeleteObjectCommand, DeleteObjectsCommand, ListObjectVersionsCommand } from "@aws-sdk/client-s3";
import { isPgkitError, PgkitError } from "../../lib/errors.ts";
import { pause, throwIfCancelled } from "../cancel.ts";
import { assertKey } from "../key.ts";
import { inParallel } from "../parallel.ts";
import type { SignalOption } from "../store.ts";
import type { S3Link } from "./link.ts";
import { rawHead } from "./read.ts";

/** DeleteObjects takes 1,000, but a slow server says nothing until all are removed, and would be taken for dead. */
const batchKeys = 250;
const passing = new Set(["InternalError", "SlowDown", "ServiceUnavailable", "OperationAborted"]);

interface Target {
  Key: string;
  VersionId?: string;
}

/**
 * See `ObjectStore.delete`. In a bucket with versions the server would answer a plain removal of a locked object by only
 * hiding it, so that there each object is looked at first. Objects that carry a lock which has run out are removed with
 * all their versions, as nobody else would free them; the versions of others are the bucket owner's wish and stay.
 */
export async function deleteObjects(link: S3Link, keys: readonly string[], { signal }: SignalOption): Promise<void> {
  for (const key of keys) assertKey(key);
  throwIfCancelled(signal);
  const wanted = [...new Set(keys)];
  if (wanted.length === 0) return;
  const versions = await hasVersions(link, wanted, signal);
  // None of them is there; in a bucket with versions, removing them all the same would leave a marker of each.
  if (versions === undefined) return;
  if (!versions) {
    await remove(
      link,
      wanted.map((key) => ({ Key: link.prefix + key })),
      signal,
    );
    return;
  }
  const { plain, locked } = await sortOut(link, wanted, signal);
  await remove(
    link,
    plain.map((key) => ({ Key: link.prefix + key })),
    signal,
  );
  for (const key of locked) await purge(link, link.prefix + key, signal);
}

/** undefined when it is not known and none of the keys is there, whose answer would tell. */
async function hasVersions(
  link: S3Link,
  keys: readonly string[],
  signal: AbortSignal | undefined,
): Promise<boolean | undefined> {
  for (const key of keys) {
    if (link.known.versioned !== undefined) break;
    await rawHead(link, key, signal);
  }
  return link.known.versioned;
}

async function sortOut(
  link: S3Link,
  keys: readonly string[],
  signal: AbortSignal | undefined,
): Promise<{ plain: string[]; locked: string[] }> {
  const plain: string[] = [];
  const locked: string[] = [];
  await inParallel(16, keys, async (key) => {
    const found = await rawHead(link, key, signal);
    const until = found?.ObjectLockRetainUntilDate;
    if (until !== undefined && until.getTime() > link.clock.now().getTime() + link.skewMs()) {
      throw new PgkitError("store-denied", `${key} in ${link.where} is locked until ${until.toISOString()}`);
    }
    if (found?.ObjectLockLegalHoldStatus === "ON") {
      throw new PgkitError("store-denied", `${key} in ${link.where} is under a legal hold`);
    }
    if (until !== undefined) locked.push(key);
    else if (found !== undefined) plain.push(key);
  });
  return { plain, locked };
}

/** Removes every version of one object, the newest last: none of the older may come to light if this is cut short. */
export async function purge(link: S3Link, fullKey: string, signal: AbortSignal | undefined): Promise<void> {
  const older: Target[] = [];
  const newest: Target[] = [];
  let at: { KeyMarker?: string; VersionIdMarker?: string } = {};
  for (let more = true; more; ) {
    const input = { Bucket: link.bucket, Prefix: fullKey, ...at };
    const page = await link.request(`listing the versions of ${fullKey}`, signal, (send) =>
      link.client.send(new ListObjectVersionsCommand(input), send),
    );
    for (const { Key, VersionId = "null", IsLatest } of [...(page.Versions ?? []), ...(page.DeleteMarkers ?? [])]) {
      if (Key === fullKey) (IsLatest === true ? newest : older).push({ Key, VersionId });
    }
    const { NextKeyMarker, NextVersionIdMarker } = page;
    more = page.IsTruncated === true && NextKeyMarker === fullKey;
    at = {
      ...(NextKeyMarker === undefined ? {} : { KeyMarker: NextKeyMarker }),
      ...(NextVersionIdMarker === undefined ? {} : { VersionIdMarker: NextVersionIdMarker }),
    };
  }
  await remove(link, older, signal);
  await remove(link, newest, signal);
}

async function remove(link: S3Link, targets: readonly Target[], signal: AbortSignal | undefined): Promise<void> {
  const starts = Array.from({ length: Math.ceil(targets.length / batchKeys) }, (_, index) => index * batchKeys);
  await inParallel(2, starts, (start) => removeBatch(link, targets.slice(start, start + batchKeys), signal));
}

async function removeBatch(link: S3Link, targets: readonly Target[], signal: AbortSignal | undefined): Promise<void> {
  let left = targets;
  for (let attempt = 1; left.length > 0; attempt += 1) {
    const failures = await tryBatch(link, left, signal);
    const [first] = failures.filter(({ code }) => !passing.has(code) || attempt === 5);
    if (first !== undefined) throw refusal(link, first);
    left = failures.map(({ target }) => target);
    if (left.length > 0) await pause(link.clock, link.clock.random() * 200 * 2 ** attempt, signal);
  }
}

interface Failure {
  target: Target;
  code: string;
  message: string;
}

async function tryBatch(link: S3Link, targets: readonly Target[], signal: AbortSignal | undefined): Promise<Failure[]> {
  const input = { Bucket: link.bucket, Delete: { Objects: [...targets], Quiet: true } };
  try {
    const result = await link.request(`removing ${targets.length} objects`, signal, (send) =>
      link.client.send(new DeleteObjectsCommand(input), send),
    );
    return (result.Errors ?? []).flatMap(({ Key = "", VersionId, Code = "", Message = "" }) =>
      Code === "NoSuchKey" || Code === "NoSuchVersion"
        ? []
        : [{ target: { Key, ...(VersionId === undefined ? {} : { VersionId }) }, code: Code, message: Message }],
    );
  } catch (error) {
    // Some servers (Google's among them) can only remove one at a time.
    if (!isPgkitError(error, "store-unsupported")) throw error;
    await inParallel(16, targets, (target) =>
      link.request(`removing ${target.Key}`, signal, (send) =>
        link.client.send(new DeleteObjectCommand({ Bucket: link.bucket, ...target }), send),
      ),
    );
    return [];
  }
}

function refusal(link: S3Link, { target, code, message }: Failure): PgkitError {
  const denied = code === "AccessDenied" || code === "ObjectLocked" || code === "InvalidObjectState";
  const text = `removing ${target.Key} in bucket ${link.bucket} failed: ${code} ${message}`.trim();
  return new PgkitError(denied ? "store-denied" : "store-failed", text);
}
