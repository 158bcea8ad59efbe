import type { Condition } from "../store.ts";
import type { S3StoreConfig } from "./config.ts";

/** What every write of an object says: class of storage and encryption by the server. */
export function writeSettings(config: S3StoreConfig) {
  const { storageClass, sse } = config;
  return {
    ...(storageClass === undefined ? {} : { StorageClass: storageClass as "STANDARD" }),
    ...(sse?.type === "AES256" ? { ServerSideEncryption: "AES256" as const } : {}),
    ...(sse?.type === "aws:kms" ? { ServerSideEncryption: "aws:kms" as const } : {}),
    ...(sse?.type === "aws:kms" && sse.keyId !== undefined ? { SSEKMSKeyId: sse.keyId } : {}),
    ...readEncryption(config),
  };
}

/** The customer's own key, which the server forgets and so must be told again with every read, write and part. */
export function readEncryption({ sse }: S3StoreConfig) {
  return sse?.type === "customer" ? { SSECustomerAlgorithm: "AES256", SSECustomerKey: sse.key } : {};
}

/** The lock of an object kept until `retainUntil`. */
export function lockSettings({ objectLock }: S3StoreConfig, retainUntil: Date | undefined) {
  if (retainUntil === undefined) return {};
  const mode = objectLock?.mode === "compliance" ? ("COMPLIANCE" as const) : ("GOVERNANCE" as const);
  return { ObjectLockMode: mode, ObjectLockRetainUntilDate: retainUntil };
}

/** How a server wants the etag of a condition: in quotes, or, as Ceph before 20, without. */
export type EtagStyle = "quoted" | "bare";

/** The headers that make the server keep a condition. */
export interface ConditionHeader {
  IfNoneMatch?: string;
  IfMatch?: string;
}

export function conditionHeader(when: Condition | undefined, style: EtagStyle = "quoted"): ConditionHeader {
  if (when === undefined) return {};
  if (when === "absent") return { IfNoneMatch: "*" };
  return { IfMatch: style === "quoted" ? `"${when.etag}"` : when.etag };
}
