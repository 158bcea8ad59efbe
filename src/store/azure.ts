import { isPgkitError, PgkitError } from "../lib/errors.ts";
import type { AzureStoreConfig } from "./azure/config.ts";
import { type AzureLink, azureLink } from "./azure/link.ts";
import { type AzureProbes, azureProbes } from "./azure/probe.ts";
import { putBlob } from "./azure/put.ts";
import { getBlob, headBlob, listBlobs } from "./azure/read.ts";
import { throwIfCancelled } from "./cancel.ts";
import { assertKey } from "./key.ts";
import { inParallel } from "./parallel.ts";
import { partPool } from "./part-pool.ts";
import type { ObjectStore, SignalOption, StoreCapabilities } from "./store.ts";

const defaultPartBytes = 5 * 1024 * 1024;
const defaultParallelParts = 4;
/** Part buffers of all uploads together, beyond the first of each. */
const sharedParts = 3;

/**
 * A container, or what is under a prefix in it. Requests that fail for reasons that pass are repeated by the client; a
 * body cut while it is read is not, so wrap it in `retryStore(..., { what: "bodies" })`. Opens no connection before the
 * first request. Fails with `config` when a setting cannot be.
 */
export async function azureStore(config: AzureStoreConfig): Promise<ObjectStore> {
  assertConfig(config);
  const link = await azureLink(config);
  const probes = azureProbes(link);
  const partBytes = config.partBytes ?? defaultPartBytes;
  const pool = partPool(partBytes, (config.parallelParts ?? defaultParallelParts) + 1, sharedParts);
  const writer = { link, probes, pool, partBytes };
  return {
    where: link.where,
    get: (key, options = {}) => getBlob(link, key, options),
    head: (key, options = {}) => headBlob(link, key, options),
    list: (prefix, options = {}) => listBlobs(link, prefix, options),
    put: (key, body, options = {}) => putBlob(writer, key, body, options),
    delete: (keys, options = {}) => deleteBlobs(link, keys, options),
    capabilities: (options = {}) => capabilities(link, probes, options),
  };
}

function assertConfig({ prefix, partBytes, storageClass, endpoint }: AzureStoreConfig): void {
  if (prefix !== undefined && prefix !== "") assertKey(prefix);
  if (partBytes !== undefined && !(partBytes >= 64 * 1024 && partBytes <= 4000 * 1024 ** 2)) {
    throw new PgkitError("config", `storage.partBytes is ${partBytes}; Azure takes blocks of 64 KiB to 4,000 MiB`);
  }
  if (storageClass?.toLowerCase() === "archive") {
    const hint = "use Cold, which can be read at once";
    throw new PgkitError("config", "blobs of the tier Archive cannot be read back to prove a backup", { hint });
  }
  if (endpoint !== undefined && (!URL.canParse(endpoint) || !/^https?:/.test(endpoint))) {
    throw new PgkitError("config", "storage.endpoint is not a URL of the form https://host:port");
  }
}

async function deleteBlobs(link: AzureLink, keys: readonly string[], { signal }: SignalOption): Promise<void> {
  for (const key of keys) assertKey(key);
  throwIfCancelled(signal);
  await inParallel(16, new Set(keys), async (key) => {
    const blob = link.container.getBlobClient(link.prefix + key);
    try {
      await link.request(`removing ${key}`, signal, (send) => blob.delete({ ...send, deleteSnapshots: "include" }));
    } catch (error) {
      if (!isPgkitError(error, "object-missing")) throw error;
    }
  });
}

async function capabilities(
  link: AzureLink,
  probes: AzureProbes,
  { signal }: SignalOption,
): Promise<StoreCapabilities> {
  throwIfCancelled(signal);
  const createIfAbsent = await probes.createIfAbsent(signal);
  const compareAndSet = await probes.compareAndSet(signal);
  const checksum = await probes.checksum(signal);
  const objectLock = await probes.objectLock(signal);
  return { createIfAbsent, compareAndSet, checksum, objectLock, clockSkewMs: Math.round(link.skewMs()) };
}
