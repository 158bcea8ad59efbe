import { fileURLToPath } from "node:url";
import { PgkitError } from "../lib/errors.ts";
import type { Clock } from "../lib/time.ts";
import type { AzureStoreConfig } from "./azure/config.ts";
import { isKey } from "./key.ts";
import type { S3StoreConfig } from "./s3/config.ts";
import type { ObjectStore } from "./store.ts";

/** What the URL of a store cannot say. Each is left out where the store has no such thing. */
export interface StorageConfig {
  /** Where the service answers; left out: Amazon's, by region, and Azure's, by account. */
  endpoint?: string | undefined;
  /** S3. Left out: `us-east-1` with an endpoint, else what the SDK finds (AWS_REGION, profile). */
  region?: string | undefined;
  /** S3: `endpoint/bucket/key` in place of `bucket.endpoint/key`; left out: with an endpoint only. */
  pathStyle?: boolean | undefined;
  /** PEM file of authorities that are trusted in addition to the system's. */
  caFile?: string | undefined;
  /** S3, with the next; left out: the SDK's default chain. */
  accessKeyId?: string | undefined;
  /** Secret. */
  secretAccessKey?: string | undefined;
  /** S3: secret; of temporary credentials. */
  sessionToken?: string | undefined;
  /** Azure: secret; one of the next three, or none for the identity library's default chain. */
  accountKey?: string | undefined;
  /** Azure: secret; a shared access signature. */
  sas?: string | undefined;
  /** Azure: secret. */
  connectionString?: string | undefined;
  /** S3's storage class or Azure's tier of all objects written. */
  storageClass?: string | undefined;
  /** S3: encryption by the server. */
  sse?: "AES256" | "aws:kms" | "customer" | undefined;
  /** S3, with `aws:kms`; left out: the account's default key. */
  sseKeyId?: string | undefined;
  /** S3, with `customer`: secret; 32 bytes in base64. */
  sseCustomerKey?: string | undefined;
  /** How objects under retention are locked; `governance` where left out. */
  lockMode?: "governance" | "compliance" | undefined;
  /** What proves an upload; `auto` where left out. */
  checksum?: "auto" | "crc32" | "md5" | "none" | undefined;
  /** The most to send, and the most to fetch, in the long run; left out: no limit. */
  bytesPerSecond?: number | undefined;
  /** S3 and Azure: size of a part of an upload; 5 MiB where left out. */
  partBytes?: number | undefined;
  /** S3 and Azure: parts of one upload under way at once; 4 where left out. */
  parallelParts?: number | undefined;
}

export interface StoreDeps {
  clock?: Clock | undefined;
  /** Told of every request to an S3 server by its name, repeated ones too. */
  onRequest?: ((name: string) => void) | undefined;
}

/**
 * The store at `s3://bucket/prefix`, `azure://account/container/prefix` or `file:///path`; the cloud libraries load only
 * when asked for. Opens no connection. Fails with `config` for a URL or a setting that cannot be.
 */
export async function openStore(url: string, storage: StorageConfig, deps: StoreDeps = {}): Promise<ObjectStore> {
  const store = await adapterFor(url, storage, deps);
  if (storage.bytesPerSecond === undefined) return store;
  const { throttleStore } = await import("./throttle.ts");
  return throttleStore(store, { bytesPerSecond: storage.bytesPerSecond, ...clockOf(deps) });
}

async function adapterFor(url: string, storage: StorageConfig, deps: StoreDeps): Promise<ObjectStore> {
  switch (/^([a-z0-9]+):\/\//.exec(url)?.[1]) {
    case "s3": {
      const { s3Store } = await import("./s3.ts");
      return await resuming(s3Store(s3Config(url, storage, deps)), deps);
    }
    case "azure": {
      const { azureStore } = await import("./azure.ts");
      return await resuming(await azureStore(azureConfig(url, storage, deps)), deps);
    }
    case "file": {
      const { fileStore } = await import("./file.ts");
      return fileStore({ path: pathOf(url), ...clockOf(deps) });
    }
    default:
      throw badUrl(url);
  }
}

/** Their clients repeat requests themselves, but not a body that breaks on its way. */
async function resuming(store: ObjectStore, deps: StoreDeps): Promise<ObjectStore> {
  const { retryStore } = await import("./retry.ts");
  return retryStore(store, { what: "bodies", ...clockOf(deps) });
}

function s3Config(url: string, storage: StorageConfig, { clock, onRequest }: StoreDeps): S3StoreConfig {
  const [bucket = "", ...rest] = partsOf(url);
  if (bucket === "") throw badUrl(url);
  const { accessKeyId, secretAccessKey, sessionToken, sse, sseKeyId, sseCustomerKey, lockMode, ...same } = storage;
  const keys =
    accessKeyId === undefined || secretAccessKey === undefined ? undefined : { accessKeyId, secretAccessKey };
  if (keys === undefined && (accessKeyId ?? secretAccessKey) !== undefined) {
    throw new PgkitError("config", "an S3 access key id needs its secret access key, and the other way round");
  }
  if (sse === "customer" && Buffer.from(sseCustomerKey ?? "", "base64").length !== 32) {
    throw new PgkitError("config", "server-side encryption with a customer's key needs 32 bytes in base64");
  }
  return {
    bucket,
    prefix: prefixOf(url, rest),
    region: same.region ?? (same.endpoint === undefined ? undefined : "us-east-1"),
    endpoint: same.endpoint,
    pathStyle: same.pathStyle ?? same.endpoint !== undefined,
    caFile: same.caFile,
    credentials: keys && { ...keys, sessionToken },
    checksum: same.checksum,
    storageClass: same.storageClass,
    sse: sse === "customer" ? { type: sse, key: sseCustomerKey ?? "" } : sse && { type: sse, keyId: sseKeyId },
    objectLock: lockMode && { mode: lockMode },
    partBytes: same.partBytes,
    parallelParts: same.parallelParts,
    onRequest,
    clock,
  };
}

function azureConfig(url: string, storage: StorageConfig, { clock }: StoreDeps): AzureStoreConfig {
  const [account = "", container = "", ...rest] = partsOf(url);
  if (account === "" || container === "") throw badUrl(url);
  const { checksum, lockMode } = storage;
  if (checksum === "crc32") throw new PgkitError("config", "Azure gives back no CRC32; set storage.checksum to auto");
  return {
    account,
    container,
    prefix: prefixOf(url, rest),
    credential: azureCredential(storage),
    endpoint: storage.endpoint,
    caFile: storage.caFile,
    storageClass: storage.storageClass,
    objectLock: lockMode && { mode: lockMode },
    checksum,
    partBytes: storage.partBytes,
    parallelParts: storage.parallelParts,
    clock,
  };
}

function azureCredential({ accountKey, sas, connectionString }: StorageConfig): AzureStoreConfig["credential"] {
  const given = [
    ...(accountKey === undefined ? [] : [{ accountKey }]),
    ...(sas === undefined ? [] : [{ sas }]),
    ...(connectionString === undefined ? [] : [{ connectionString }]),
  ];
  if (given.length > 1) {
    throw new PgkitError("config", "of account key, shared access signature and connection string, only one can be");
  }
  return given[0];
}

function partsOf(url: string): string[] {
  return url
    .replace(/^[a-z0-9]+:\/\//, "")
    .replace(/\/+$/, "")
    .split("/");
}

function prefixOf(url: string, parts: readonly string[]): string | undefined {
  const prefix = parts.join("/");
  if (prefix === "") return undefined;
  if (!isKey(prefix)) {
    const hint = "its parts can have letters, digits and . _ = + -";
    throw new PgkitError("config", `the folder ${prefix} in ${url} cannot be`, { hint });
  }
  return prefix;
}

function pathOf(url: string): string {
  try {
    return fileURLToPath(url);
  } catch (error) {
    throw new PgkitError("config", `${url} does not name a folder of this machine`, {
      hint: "write file:///absolute/path",
      cause: error,
    });
  }
}

function clockOf({ clock }: StoreDeps): { clock?: Clock } {
  return clock === undefined ? {} : { clock };
}

function badUrl(url: string): PgkitError {
  return new PgkitError("config", `${url} does not name a store`, {
    hint: "write s3://bucket/folder, azure://account/container/folder or file:///absolute/path",
  });
}
