import { PgkitError } from "../lib/errors.ts";
import { throwIfCancelled } from "./cancel.ts";
import { assertKey } from "./key.ts";
import { partPool } from "./part-pool.ts";
import type { S3StoreConfig } from "./s3/config.ts";
import { deleteObjects } from "./s3/delete.ts";
import { type S3Link, s3Link } from "./s3/link.ts";
import { listObjects } from "./s3/list.ts";
import { type S3Probes, s3Probes } from "./s3/probe.ts";
import { putObject } from "./s3/put.ts";
import { getObject, headObject } from "./s3/read.ts";
import { s3Uploads } from "./s3/uploads.ts";
import type { ObjectStore, SignalOption, StoreCapabilities } from "./store.ts";

const defaultPartBytes = 5 * 1024 * 1024;
const defaultParallelParts = 4;
/** Part buffers of all uploads together, beyond the first of each. */
const sharedParts = 3;

/**
 * A bucket, or what is under a prefix in it. Requests that fail for reasons that pass are repeated here (`s3/backoff.ts`),
 * also within an upload in parts; a body cut while it is read is not, so wrap it in `retryStore(..., { what: "bodies" })`.
 * Opens no connection before the first request. Fails with `config` when a setting cannot be.
 */
export function s3Store(config: S3StoreConfig): ObjectStore {
  assertConfig(config);
  const link = s3Link(config);
  const probes = s3Probes(link);
  const partBytes = config.partBytes ?? defaultPartBytes;
  const pool = partPool(partBytes, (config.parallelParts ?? defaultParallelParts) + 1, sharedParts);
  const writer = { link, probes, pool, partBytes };
  return {
    where: link.where,
    get: (key, options = {}) => getObject(link, key, options),
    head: (key, options = {}) => headObject(link, key, options),
    list: (prefix, options = {}) => listObjects(link, prefix, options),
    put: (key, body, options = {}) => putObject(writer, key, body, options),
    delete: (keys, options = {}) => deleteObjects(link, keys, options),
    capabilities: (options = {}) => capabilities(link, probes, options),
    uploads: s3Uploads(link),
  };
}

function assertConfig({ prefix, partBytes, storageClass, checksum, endpoint }: S3StoreConfig): void {
  if (prefix !== undefined && prefix !== "") assertKey(prefix);
  if (partBytes !== undefined && !(partBytes >= defaultPartBytes && partBytes <= 5 * 1024 ** 3)) {
    throw new PgkitError("config", `storage.partBytes is ${partBytes}; S3 takes parts of 5 MiB to 5 GiB`);
  }
  if (storageClass === "GLACIER" || storageClass === "DEEP_ARCHIVE") {
    const hint = "use GLACIER_IR, which can be read at once, or a lifecycle rule for what is old";
    throw new PgkitError("config", `objects of the class ${storageClass} cannot be read back to prove a backup`, {
      hint,
    });
  }
  if (checksum !== undefined && !["auto", "crc32", "md5", "none"].includes(checksum)) {
    throw new PgkitError("config", `storage.checksum is ${checksum}; it can be auto, crc32, md5 or none`);
  }
  if (endpoint !== undefined && (!URL.canParse(endpoint) || !/^https?:/.test(endpoint))) {
    throw new PgkitError("config", "storage.endpoint is not a URL of the form https://host:port");
  }
}

async function capabilities(link: S3Link, probes: S3Probes, { signal }: SignalOption): Promise<StoreCapabilities> {
  throwIfCancelled(signal);
  const createIfAbsent = await probes.createIfAbsent(signal);
  const compareAndSet = (await probes.compareAndSet(signal)) !== undefined;
  const checksum = await probes.checksum(signal);
  const objectLock = await probes.lockKept(signal);
  return { createIfAbsent, compareAndSet, checksum, objectLock, clockSkewMs: Math.round(link.skewMs()) };
}
