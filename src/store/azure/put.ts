import { createHash, randomUUID } from "node:crypto";
import type { Readable } from "node:stream";
import type { BlobRequestConditions } from "@azure/storage-blob";
import { isPgkitError, PgkitError } from "../../lib/errors.ts";
import { asBuffer, chunksOf, discard } from "../body.ts";
import { throwIfCancelled } from "../cancel.ts";
import { assertKey } from "../key.ts";
import type { PartPool } from "../part-pool.ts";
import { type Part, partsInMemory, partsOf } from "../parts.ts";
import { sendParts } from "../send-parts.ts";
import type { Condition, PutOptions, StoredObject } from "../store.ts";
import { answerOf } from "./errors.ts";
import type { AzureLink } from "./link.ts";
import type { AzureProbes } from "./probe.ts";
import { bareEtag, quoted, rawHead } from "./read.ts";

export interface AzureWriter {
  link: AzureLink;
  probes: AzureProbes;
  pool: PartPool;
  partBytes: number;
}

interface Write {
  key: string;
  /** Written into the metadata, by which a write whose answer was lost knows itself again. */
  id: string;
  options: PutOptions;
  /** Whether the service was seen to check and give back MD5. */
  md5: boolean;
}

interface Written {
  etag: string;
  bytes: number;
  proven: boolean;
}

const writeIdName = "pgkitwrite";

/** See `ObjectStore.put`. Blocks that are never committed are invisible, and the service drops them after a week. */
export async function putBlob(
  writer: AzureWriter,
  key: string,
  body: Readable | Uint8Array,
  options: PutOptions,
): Promise<StoredObject> {
  assertKey(key);
  const { link, probes } = writer;
  const { retainUntil, signal } = options;
  const lease = writer.pool.open();
  try {
    throwIfCancelled(signal);
    if (retainUntil !== undefined && !(await probes.objectLock(signal))) throw noRetention(link, key);
    const write: Write = { key, id: randomUUID(), options, md5: (await probes.checksum(signal)) === "md5" };
    const parts =
      body instanceof Uint8Array
        ? partsInMemory(asBuffer(body), writer.partBytes)
        : partsOf(chunksOf(body, signal), writer.partBytes, lease, signal);
    const first = await parts.next();
    if (first.done === true) throw new PgkitError("bug", `${key} has no parts`);
    const store = first.value.last
      ? () => putWhole(writer, write, first.value.bytes)
      : () => putBlocks(writer, write, first.value, parts, body);
    const { etag, bytes, proven } = await orOurs(writer, write, store);
    const modifiedAt = new Date(link.clock.now().getTime() + link.skewMs());
    const retained = retainUntil === undefined ? {} : { retainedUntil: await lockOf(link, key, retainUntil, signal) };
    return { key, bytes, etag: bareEtag(etag), modifiedAt, proven: proven && "store-checksum", ...retained };
  } catch (error) {
    discard(body);
    throw error;
  } finally {
    lease.close();
  }
}

/** The client repeats requests, and one that was repeated fails on its own first success; the id in the metadata tells. */
async function orOurs({ link }: AzureWriter, write: Write, store: () => Promise<Written>): Promise<Written> {
  const { when, signal } = write.options;
  try {
    return await store();
  } catch (error) {
    const lost = isPgkitError(error, "condition-failed") || answerOf(error)?.code === "InvalidBlockList";
    if (!lost) throw error;
    const found = await rawHead(link, write.key, signal);
    if (found?.metadata?.[writeIdName] === write.id) {
      return { etag: found.etag ?? "", bytes: found.contentLength ?? 0, proven: false };
    }
    // Another's commit drops the blocks of all others, so that ours may not be there any more.
    if (when === undefined) throw error;
    const what = when === "absent" ? "is there already" : "was changed by another";
    throw new PgkitError("condition-failed", `${write.key} ${what} in ${link.where}`, { cause: error });
  }
}

async function putWhole({ link }: AzureWriter, write: Write, bytes: Buffer): Promise<Written> {
  const blob = link.container.getBlockBlobClient(link.prefix + write.key);
  const answer = await link.request(`storing ${write.key}`, write.options.signal, (send) =>
    blob.upload(bytes, bytes.length, { ...send, ...settings(link, write) }),
  );
  // No MD5 was sent, so that the one that comes back was computed over what arrived.
  const proven = write.md5 && md5(bytes).equals(asBuffer(answer.contentMD5 ?? Buffer.alloc(0)));
  return { etag: answer.etag ?? "", bytes: bytes.length, proven };
}

async function putBlocks(
  { link }: AzureWriter,
  write: Write,
  first: Part,
  rest: AsyncGenerator<Part>,
  body: Readable | Uint8Array,
): Promise<Written> {
  const blob = link.container.getBlockBlobClient(link.prefix + write.key);
  const idOf = (number: number) => Buffer.from(`${write.id}-${String(number).padStart(6, "0")}`).toString("base64");
  const { sent, bytes } = await sendParts(first, rest, {
    parallel: link.config.parallelParts ?? 4,
    body,
    signal: write.options.signal,
    send: async (part, number, signal) => {
      const sum = md5(part.bytes);
      const check = write.md5 ? { transactionalContentMD5: sum } : {};
      const answer = await link.request(`storing block ${number} of ${write.key}`, signal, (send) =>
        blob.stageBlock(idOf(number), part.bytes, part.bytes.length, { ...send, ...check }),
      );
      // Azurite checks the MD5 of a block but does not give it back, which proves nothing by the store's contract.
      return write.md5 && sum.equals(asBuffer(answer.contentMD5 ?? Buffer.alloc(0)));
    },
  });
  const ids = sent.map((_, index) => idOf(index + 1));
  const answer = await link.request(`completing ${write.key}`, write.options.signal, (send) =>
    blob.commitBlockList(ids, { ...send, ...settings(link, write) }),
  );
  return { etag: answer.etag ?? "", bytes, proven: sent.every((proven) => proven) };
}

function settings({ config }: AzureLink, { id, options: { when, retainUntil } }: Write) {
  const policyMode = config.objectLock?.mode === "compliance" ? "Locked" : "Unlocked";
  return {
    metadata: { [writeIdName]: id },
    conditions: conditionsOf(when),
    ...(config.storageClass === undefined ? {} : { tier: config.storageClass }),
    ...(retainUntil === undefined ? {} : { immutabilityPolicy: { expiriesOn: retainUntil, policyMode } as const }),
  };
}

function conditionsOf(when: Condition | undefined): BlobRequestConditions {
  if (when === undefined) return {};
  return when === "absent" ? { ifNoneMatch: "*" } : { ifMatch: quoted(when.etag) };
}

function md5(bytes: Buffer): Buffer {
  return createHash("md5").update(bytes).digest();
}

async function lockOf(link: AzureLink, key: string, wanted: Date, signal: AbortSignal | undefined): Promise<Date> {
  const until = (await rawHead(link, key, signal))?.immutabilityPolicyExpiresOn;
  if (until === undefined || until.getTime() < wanted.getTime() - 1_000) throw noRetention(link, key);
  return until;
}

function noRetention(link: AzureLink, key: string): PgkitError {
  return new PgkitError("store-unsupported", `${link.where} does not keep ${key} from removal`, {
    hint: "enable version-level immutability support on the container",
  });
}
