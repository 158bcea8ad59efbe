import { Readable } from "node:stream";
import type { BlobDownloadResponseParsed, BlobGetPropertiesResponse } from "@azure/storage-blob";
import { isPgkitError, PgkitError } from "../../lib/errors.ts";
import { objectBody } from "../body.ts";
import { throwIfCancelled } from "../cancel.ts";
import { assertKey, isKey } from "../key.ts";
import type { GetOptions, ListOptions, ObjectBody, ObjectInfo, SignalOption } from "../store.ts";
import { answerOf } from "./errors.ts";
import type { AzureLink } from "./link.ts";

/** See `ObjectReader.get`. */
export async function getBlob(link: AzureLink, key: string, options: GetOptions): Promise<ObjectBody> {
  assertKey(key);
  const { range, etag, signal } = options;
  const blob = link.container.getBlobClient(link.prefix + key);
  const conditions = etag === undefined ? {} : { conditions: { ifMatch: quoted(etag) } };
  const open = range === undefined || range.last >= Number.MAX_SAFE_INTEGER;
  const count = range === undefined || open ? undefined : range.last - range.first + 1;
  try {
    const found = await link.request(`reading ${key}`, signal, (send) =>
      blob.download(range?.first ?? 0, count, { ...send, ...conditions, maxRetryRequests: 0 }),
    );
    return bodyOf(link, key, found, options);
  } catch (error) {
    if (answerOf(error)?.status === 416) return await emptyBody(link, key, options);
    if (isPgkitError(error, "condition-failed")) throw changed(link, key);
    throw error;
  }
}

function bodyOf(link: AzureLink, key: string, found: BlobDownloadResponseParsed, options: GetOptions): ObjectBody {
  const { readableStreamBody: source, contentLength: bytes } = found;
  if (!(source instanceof Readable) || bytes === undefined) {
    throw new PgkitError("store-failed", `${link.where} gave ${key} without saying how long it is`);
  }
  const etag = bareEtag(found.etag);
  if (options.etag !== undefined && options.etag !== etag) {
    source.on("error", () => undefined).destroy();
    throw changed(link, key);
  }
  const fail = (error: unknown, read: number) => {
    const said = error instanceof Error ? error.message : String(error);
    return new PgkitError("store-failed", `${key} in ${link.where} was cut after ${read} of ${bytes} bytes: ${said}`);
  };
  return objectBody(source, {
    key,
    etag,
    bytes,
    fail,
    signal: options.signal,
    idleMs: link.config.idleTimeoutMs ?? 60_000,
  });
}

/** The service said that the range begins past the end: there is nothing to give but the version. */
async function emptyBody(link: AzureLink, key: string, { etag, signal }: GetOptions): Promise<ObjectBody> {
  const found = await headBlob(link, key, { signal });
  if (found === undefined) throw new PgkitError("object-missing", `${link.where} has no ${key}`);
  if (etag !== undefined && etag !== found.etag) throw changed(link, key);
  return Object.assign(Readable.from([], { objectMode: false }), { etag: found.etag });
}

/** See `ObjectReader.head`. */
export async function headBlob(
  link: AzureLink,
  key: string,
  { signal }: SignalOption,
): Promise<ObjectInfo | undefined> {
  const found = await rawHead(link, key, signal);
  if (found === undefined) return undefined;
  const until = found.immutabilityPolicyExpiresOn;
  return {
    key,
    bytes: found.contentLength ?? 0,
    etag: bareEtag(found.etag),
    modifiedAt: found.lastModified ?? new Date(0),
    ...(until === undefined ? {} : { retainedUntil: until }),
  };
}

/** The blob's properties in the SDK's words; undefined only where the service said that it is not there. */
export async function rawHead(
  link: AzureLink,
  key: string,
  signal: AbortSignal | undefined,
): Promise<BlobGetPropertiesResponse | undefined> {
  assertKey(key);
  const blob = link.container.getBlobClient(link.prefix + key);
  try {
    return await link.request(`looking for ${key}`, signal, (send) => blob.getProperties(send));
  } catch (error) {
    if (isPgkitError(error, "object-missing")) return undefined;
    throw error;
  }
}

/** See `ObjectReader.list`. Azure lists in byte order, but only from the start of a prefix: keys before `after` are read too. */
export async function* listBlobs(
  link: AzureLink,
  prefix: string,
  { after, signal }: ListOptions,
): AsyncGenerator<ObjectInfo> {
  let last = "";
  let token: string | undefined;
  do {
    throwIfCancelled(signal);
    const pages = (send: object) =>
      link.container.listBlobsFlat({ ...send, prefix: link.prefix + prefix }).byPage({
        ...(token === undefined ? {} : { continuationToken: token }),
      });
    const page = await link.request(`listing ${prefix}`, signal, async (send) => (await pages(send).next()).value);
    for (const { name, properties } of page?.segment?.blobItems ?? []) {
      if (name <= last) {
        throw new PgkitError("store-failed", `${link.where} lists ${name} after ${last}, which is out of order`);
      }
      last = name;
      const key = name.slice(link.prefix.length);
      if (!isKey(key) || (after !== undefined && key <= after)) continue;
      const { contentLength: bytes = 0, etag, lastModified: modifiedAt } = properties;
      yield { key, bytes, etag: bareEtag(etag), modifiedAt };
    }
    token = page?.continuationToken === "" ? undefined : page?.continuationToken;
  } while (token !== undefined);
}

/** Azure gives etags with quotes in headers and without in lists. */
export function bareEtag(etag: string | undefined): string {
  return (etag ?? "").replaceAll('"', "");
}

/** As a condition wants it. */
export function quoted(etag: string): string {
  return `"${etag}"`;
}

function changed(link: AzureLink, key: string): PgkitError {
  return new PgkitError("condition-failed", `${key} in ${link.where} was changed by another`);
}
