import type { StorageConfig } from "../../store/open.ts";
import { type Option, option } from "./option.ts";
import * as value from "./values.ts";

/** What the URL of a repository cannot say; the names are those of `StorageConfig`. `at` is empty for the top of the file. */
export function storageOptions<const At extends "" | "repositories.[].">(at: At) {
  const rows = { ...placeOptions(at), ...credentialOptions(at), ...writeOptions(at), ...transferOptions(at) };
  return rows satisfies Record<keyof StorageConfig, Option<unknown>>;
}

function named(at: string, key: string): { key: string; env?: string } {
  const env = `PGKIT_STORAGE_${key.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
  return { key: `${at}storage.${key}`, ...(at === "" ? { env } : {}) };
}

function placeOptions(at: string) {
  return {
    endpoint: option(value.httpUrl, {
      ...named(at, "endpoint"),
      defaultDoc: "that of the cloud",
      doc: "where the service answers, for other services than the cloud's own",
    }),
    region: option(value.text, {
      ...named(at, "region"),
      defaultDoc: "`us-east-1` with an endpoint, else what AWS's own settings say",
      doc: "S3: region",
    }),
    pathStyle: option(value.yesOrNo, {
      ...named(at, "pathStyle"),
      defaultDoc: "true with an endpoint",
      doc: "S3: the bucket stands in the path, not in the host name",
    }),
    caFile: option(value.path, {
      ...named(at, "caFile"),
      doc: "PEM file of authorities that are trusted in addition to the system's",
    }),
  };
}

function credentialOptions(at: string) {
  const secret = (key: string, doc: string) => option(value.text, { ...named(at, key), secret: true, doc });
  return {
    accessKeyId: option(value.text, {
      ...named(at, "accessKeyId"),
      defaultDoc: "AWS's default chain: variables, profile, web identity, pod identity, instance",
      doc: "S3: access key id",
    }),
    secretAccessKey: secret("secretAccessKey", "S3: secret access key"),
    sessionToken: secret("sessionToken", "S3: session token of temporary credentials"),
    accountKey: option(value.text, {
      ...named(at, "accountKey"),
      secret: true,
      defaultDoc: "Azure's default chain: variables, workload identity, managed identity, az login",
      doc: "Azure: key of the storage account",
    }),
    sas: secret("sas", "Azure: shared access signature, in place of the account key"),
    connectionString: secret("connectionString", "Azure: connection string, in place of the account key"),
  };
}

function writeOptions(at: string) {
  return {
    storageClass: option(value.text, {
      ...named(at, "storageClass"),
      defaultDoc: "that of the bucket or account",
      doc: "S3's storage class or Azure's tier of what is written",
    }),
    sse: option(value.choice("AES256", "aws:kms", "customer"), {
      ...named(at, "sse"),
      defaultDoc: "that of the bucket",
      doc: "S3: encryption by the server",
    }),
    sseKeyId: option(value.text, {
      ...named(at, "sseKeyId"),
      defaultDoc: "the account's own key",
      doc: "S3: key of the encryption by `aws:kms`",
    }),
    sseCustomerKey: option(value.text, {
      ...named(at, "sseCustomerKey"),
      secret: true,
      doc: "S3: key of the encryption by `customer`, 32 bytes in base64",
    }),
    lockMode: option(value.choice("governance", "compliance"), {
      ...named(at, "lockMode"),
      defaultDoc: "`governance`",
      doc: "how objects are locked where `objectLock` is set",
    }),
    checksum: option(value.choice("auto", "crc32", "md5", "none"), {
      ...named(at, "checksum"),
      defaultDoc: "`auto`: asked of the store by a few probes",
      doc: "what proves an upload; `none` reads it back",
    }),
  };
}

function transferOptions(at: string) {
  return {
    bytesPerSecond: option(value.byteSize, {
      ...named(at, "bytesPerSecond"),
      defaultDoc: "no limit",
      doc: "the most to send, and the most to fetch, in a second",
    }),
    partBytes: option(value.byteSize, {
      ...named(at, "partBytes"),
      defaultDoc: "`5MiB`",
      doc: "size of a part of an upload",
    }),
    parallelParts: option(value.wholeNumber(1, 64), {
      ...named(at, "parallelParts"),
      defaultDoc: "4",
      doc: "parts of one upload under way at once",
    }),
  };
}
