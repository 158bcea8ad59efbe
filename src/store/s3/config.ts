import type { Clock } from "../../lib/time.ts";

export interface S3StoreConfig {
  bucket: string;
  /** Keys of the store live under `prefix/` in the bucket. */
  prefix?: string | undefined;
  /** Left out: what the SDK finds (AWS_REGION, profile). */
  region?: string | undefined;
  /** Left out: Amazon's, by region. */
  endpoint?: string | undefined;
  /** `endpoint/bucket/key` in place of `bucket.endpoint/key`; most servers that are not Amazon's want it. */
  pathStyle?: boolean | undefined;
  /** PEM file of authorities that are trusted in addition to the system's. */
  caFile?: string | undefined;
  /** Left out: the SDK's default chain (environment, profile, web identity, pod identity, instance). */
  credentials?: S3Credentials | undefined;
  /** What `proven` rests on; `auto`, where left out, asks the server by a few probes before the first upload. */
  checksum?: "auto" | "crc32" | "md5" | "none" | undefined;
  storageClass?: string | undefined;
  sse?: S3Encryption | undefined;
  /** How objects put with `retainUntil` are locked; governance where left out. */
  objectLock?: { mode: "governance" | "compliance" } | undefined;
  /** 5 MiB where left out, the least that S3 takes; times 10,000 it bounds the size of an object. */
  partBytes?: number | undefined;
  /** Parts of one upload under way at once, 4 where left out. */
  parallelParts?: number | undefined;
  /** Requests are sent so often at most when they fail for reasons that pass; 6 where left out. */
  attempts?: number | undefined;
  /** How long a connection may take to come about; 10,000 where left out. */
  connectTimeoutMs?: number | undefined;
  /** How long a server may say nothing; 60,000 where left out. */
  idleTimeoutMs?: number | undefined;
  /** Told of every request that is sent, by its S3 name, such as `UploadPart`; repeated ones too. */
  onRequest?: ((name: string) => void) | undefined;
  clock?: Clock | undefined;
}

export interface S3Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string | undefined;
}

/** Encryption by the server. The key of `customer` is 32 bytes in base64, and is needed to read as well. */
export type S3Encryption =
  | { type: "AES256" }
  | { type: "aws:kms"; keyId?: string | undefined }
  | { type: "customer"; key: string };
