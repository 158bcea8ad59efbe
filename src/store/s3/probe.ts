import { randomUUID } from "node:crypto";
import { DeleteObjectCommand } from "@aws-sdk/client-s3";
import { isPgkitError } from "../../lib/errors.ts";
import { once } from "../once.ts";
import type { ChecksumMode } from "./checksum.ts";
import { purge } from "./delete.ts";
import type { S3Link } from "./link.ts";
import { probeChecksum } from "./probe-checksum.ts";
import { hasLocks, keepsLock } from "./probe-lock.ts";
import { completesIfAbsent } from "./probe-multipart.ts";
import { putProbe } from "./probe-put.ts";
import { bareEtag, rawHead } from "./read.ts";
import { conditionHeader, type EtagStyle } from "./write-input.ts";

/**
 * What the server really does, each asked once and only when needed, by writing objects of a few bytes under `probe/` and
 * removing them. Fails where the server cannot be reached or refuses us: only what it answers counts as an answer.
 */
export interface S3Probes {
  createIfAbsent(signal?: AbortSignal): Promise<boolean>;
  /** How it wants the etag; undefined where it does not compare, or not between two at the same moment. */
  compareAndSet(signal?: AbortSignal): Promise<EtagStyle | undefined>;
  /** The condition is kept where an upload in parts is completed, too. */
  completeIfAbsent(signal?: AbortSignal): Promise<boolean>;
  checksum(signal?: AbortSignal): Promise<ChecksumMode>;
  /** The bucket says that it locks objects, or will not say; each object's lock is looked at after it is written. */
  lockEnabled(signal?: AbortSignal): Promise<boolean>;
  /** An object put with a lock shows it, and cannot be removed. Takes some seconds, until that lock has run out. */
  lockKept(signal?: AbortSignal): Promise<boolean>;
}

export function s3Probes(link: S3Link): S3Probes {
  const lockEnabled = once(() => hasLocks(link));
  return {
    createIfAbsent: once(() => withProbe(link, (key) => createsIfAbsent(link, key))),
    compareAndSet: once(() => withProbe(link, (key) => comparesAndSets(link, key))),
    completeIfAbsent: once(() => withProbe(link, (key) => completesIfAbsent(link, key))),
    checksum: once(() => withProbe(link, (key) => probeChecksum(link, key))),
    lockEnabled,
    lockKept: once(async () => (await lockEnabled()) && (await withProbe(link, (key) => keepsLock(link, key)))),
  };
}

/** Enough that a server that first looks and then writes lets more than one win. */
const racers = 6;

/** Runs `work` with a key that is not in use, relative to the store, and removes what it leaves there. */
async function withProbe<T>(link: S3Link, work: (key: string) => Promise<T>): Promise<T> {
  const key = `probe/${randomUUID()}`;
  try {
    return await work(key);
  } finally {
    await removeProbe(link, key);
  }
}

async function removeProbe(link: S3Link, key: string): Promise<void> {
  const Key = link.prefix + key;
  const found = await rawHead(link, key, undefined);
  if (found === undefined) return;
  if (found.VersionId !== undefined) {
    try {
      await purge(link, Key, undefined);
      return;
    } catch (error) {
      // A bucket may lock all that is put there, or keep its versions from us: then it is hidden, as by a user's removal.
      if (!isPgkitError(error, "store-denied")) throw error;
    }
  }
  await link.request(`removing ${key}`, undefined, (send) =>
    link.client.send(new DeleteObjectCommand({ Bucket: link.bucket, Key }), send),
  );
}

/** Several at the same moment, and one after them: exactly one may win. In buckets with versions, Ceph lets all win. */
async function createsIfAbsent(link: S3Link, key: string): Promise<boolean> {
  const put = () => putProbe(link, key, conditionHeader("absent"));
  return (await race(put)) === 1 && (await put()) === undefined;
}

async function comparesAndSets(link: S3Link, key: string): Promise<EtagStyle | undefined> {
  for (const style of ["quoted", "bare"] as const) {
    const etag = bareEtag((await putProbe(link, key, {}))?.ETag);
    const put = (content: string, expected: string) =>
      putProbe(link, key, { Body: Buffer.from(content), ...conditionHeader({ etag: expected }, style) });
    if ((await put("wrong", "00000000000000000000000000000000")) !== undefined) return undefined;
    const winners = await race((racer) => put(`racer ${racer}`, etag));
    if (winners === 1) return style;
    // Nobody: it may want the etag written otherwise.
    if (winners > 1) return undefined;
  }
  return undefined;
}

async function race(put: (racer: number) => Promise<unknown>): Promise<number> {
  const answers = await Promise.all(Array.from({ length: racers }, (_, racer) => put(racer)));
  return answers.filter((answer) => answer !== undefined).length;
}
