import type { Clock } from "../../lib/time.ts";

export interface AzureStoreConfig {
  account: string;
  container: string;
  /** Keys of the store live under `prefix/` in the container. */
  prefix?: string | undefined;
  /** Left out: the identity library's default chain (environment, workload identity, managed identity, az login). */
  credential?: AzureCredential | undefined;
  /** Left out: `https://ACCOUNT.blob.core.windows.net`. */
  endpoint?: string | undefined;
  /** PEM file of authorities that are trusted in addition to the system's. */
  caFile?: string | undefined;
  /** Hot, Cool or Cold; the account's default where left out. */
  storageClass?: string | undefined;
  /** How objects put with `retainUntil` are kept: governance is Azure's unlocked policy, compliance its locked one. */
  objectLock?: { mode: "governance" | "compliance" } | undefined;
  /** `auto`, where left out, asks the service; `none` leaves it to reading back. */
  checksum?: "auto" | "md5" | "none" | undefined;
  /** 5 MiB where left out. */
  partBytes?: number | undefined;
  /** Blocks of one upload under way at once, 4 where left out. */
  parallelParts?: number | undefined;
  /** Requests are sent so often at most when they fail for reasons that pass; 6 where left out. */
  attempts?: number | undefined;
  /** How long a connection may take to come about; 10,000 where left out. */
  connectTimeoutMs?: number | undefined;
  /** How long the service may say nothing; 60,000 where left out. */
  idleTimeoutMs?: number | undefined;
  clock?: Clock | undefined;
}

export type AzureCredential =
  | { accountKey: string }
  /** A shared access signature, with or without the question mark. */
  | { sas: string }
  | { connectionString: string };
