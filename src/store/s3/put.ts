import { randomUUID } from "node:crypto";
import type { Readable } from "node:stream";
import { DeleteObjectCommand, PutObjectCommand, PutObjectRetentionCommand } from "@aws-sdk/client-s3";
import { isPgkitError, PgkitError } from "../../lib/errors.ts";
import { asBuffer, chunksOf, discard } from "../body.ts";
import { pause, throwIfCancelled } from "../cancel.ts";
import { assertKey } from "../key.ts";
import { gather, type Part, partsInMemory, partsOf } from "../parts.ts";
import type { PutOptions, StoredObject } from "../store.ts";
import { type Sum, sumOf } from "./checksum.ts";
import { answerOf } from "./errors.ts";
import { putParts } from "./multipart.ts";
import { unlessRefused } from "./probe-put.ts";
import { bareEtag, rawHead } from "./read.ts";
import { failedCondition, type S3Write, type S3Writer, type S3Written, writeIdName } from "./write.ts";
import { type ConditionHeader, conditionHeader, lockSettings, writeSettings } from "./write-input.ts";

/** Content with a condition goes up in one request as far as this, since servers keep it there best. */
const conditionalBytes = 32 * 1024 * 1024;
const conflictsAtMost = 6;

/** See `ObjectStore.put`. */
export async function putObject(
  writer: S3Writer,
  key: string,
  body: Readable | Uint8Array,
  options: PutOptions,
): Promise<StoredObject> {
  assertKey(key);
  const { when, retainUntil, signal } = options;
  try {
    throwIfCancelled(signal);
    const condition = await supported(writer, key, options);
    const mode = await writer.probes.checksum(signal);
    const write: S3Write = { key, id: randomUUID(), mode, when, condition, retainUntil, signal };
    const written = when === undefined ? await putPlain(writer, write, body) : await putIf(writer, write, body);
    writer.link.known.bucket = true;
    writer.link.known.versioned ??= written.versionId !== undefined;
    const { etag, bytes, proven } = written;
    const modifiedAt = new Date(writer.link.clock.now().getTime() + writer.link.skewMs());
    const retained = retainUntil === undefined ? {} : await assertLocked(writer, write, written, retainUntil);
    return { key, bytes, etag: bareEtag(etag), modifiedAt, proven: proven && "store-checksum", ...retained };
  } catch (error) {
    discard(body);
    throw error;
  }
}

/** Fails with `store-unsupported` where the server was seen not to keep what is asked for. */
async function supported({ link, probes }: S3Writer, key: string, options: PutOptions): Promise<ConditionHeader> {
  const { when, retainUntil, signal } = options;
  const refusal = (what: string) => {
    const hint = "`pgkit check` shows what the store can do";
    return new PgkitError("store-unsupported", `${link.where} does not ${what}, which ${key} needs`, { hint });
  };
  if (retainUntil !== undefined && !(await probes.lockEnabled(signal))) throw refusal("lock objects");
  if (when === "absent" && !(await probes.createIfAbsent(signal))) throw refusal("create only if absent");
  if (when === undefined || when === "absent") return conditionHeader(when);
  const style = await probes.compareAndSet(signal);
  if (style === undefined) throw refusal("compare and set");
  return conditionHeader(when, style);
}

async function putPlain(writer: S3Writer, write: S3Write, body: Readable | Uint8Array): Promise<S3Written> {
  if (body instanceof Uint8Array) {
    return await putFrom(writer, write, body, partsInMemory(asBuffer(body), writer.partBytes));
  }
  return await putStream(writer, write, body, chunksOf(body, write.signal));
}

async function putIf(writer: S3Writer, write: S3Write, body: Readable | Uint8Array): Promise<S3Written> {
  const chunks = chunksOf(body, write.signal);
  const start = await gather(chunks, conditionalBytes);
  if (start.ended) return await putWhole(writer, write, start.bytes);
  if (write.when !== "absent" || !(await writer.probes.completeIfAbsent(write.signal))) {
    const limit = `only up to ${conditionalBytes} bytes`;
    throw new PgkitError("store-unsupported", `${writer.link.where} keeps conditions ${limit}; ${write.key} is larger`);
  }
  const all = async function* () {
    yield start.bytes;
    yield* chunks;
  };
  return await putStream(writer, write, body, all());
}

async function putStream(
  writer: S3Writer,
  write: S3Write,
  body: Readable | Uint8Array,
  chunks: AsyncGenerator<Buffer>,
): Promise<S3Written> {
  const lease = writer.pool.open();
  try {
    return await putFrom(writer, write, body, partsOf(chunks, writer.partBytes, lease, write.signal));
  } finally {
    lease.close();
  }
}

async function putFrom(
  writer: S3Writer,
  write: S3Write,
  body: Readable | Uint8Array,
  parts: AsyncGenerator<Part, void>,
): Promise<S3Written> {
  const first = await parts.next();
  if (first.done === true) throw new PgkitError("bug", `${write.key} has no parts`);
  if (first.value.last) return await putWhole(writer, write, first.value.bytes);
  return await putParts(writer, write, first.value, parts, body);
}

/** One PutObject, and again while the server says that another write of the same key is under way. */
async function putWhole(writer: S3Writer, write: S3Write, bytes: Buffer): Promise<S3Written> {
  const { link } = writer;
  // Amazon wants a checksum of whatever is locked, also where none was found to prove anything.
  const sum = sumOf(write.retainUntil !== undefined && write.mode === "none" ? "md5" : write.mode, bytes);
  for (let conflicts = 0; ; conflicts += 1) {
    try {
      return await sendWhole(writer, write, bytes, sum);
    } catch (error) {
      const answer = answerOf(error);
      const again = answer?.status === 409 && conflicts < conflictsAtMost;
      // An object that is to be replaced and is not there is missing to some servers, and to us is another than named.
      const failed = isPgkitError(
        error,
        "condition-failed",
        ...(write.when === undefined ? [] : ["object-missing" as const]),
      );
      if (!again && !failed) throw error;
      const ours = (answer?.attempts ?? 1) > 1 || conflicts > 0 ? await findOurs(writer, write, sum) : undefined;
      if (ours !== undefined) return ours;
      if (!again) throw failedCondition(writer.link, write, error);
    }
    await pause(link.clock, link.clock.random() * 100 * 2 ** conflicts, write.signal);
  }
}

async function sendWhole({ link }: S3Writer, write: S3Write, bytes: Buffer, sum: Sum): Promise<S3Written> {
  const input = {
    Bucket: link.bucket,
    Key: link.prefix + write.key,
    Body: bytes,
    ContentLength: bytes.length,
    ...sum.header,
    ...write.condition,
    ...(write.when === undefined ? {} : { Metadata: { [writeIdName]: write.id } }),
    ...lockSettings(link.config, write.retainUntil),
    ...writeSettings(link.config),
  };
  const answer = await link.request(`storing ${write.key}`, write.signal, (send) =>
    link.client.send(new PutObjectCommand(input), send),
  );
  const proven = write.mode !== "none" && sum.proves(answer);
  return { etag: answer.ETag ?? "", bytes: bytes.length, proven, versionId: answer.VersionId };
}

/** A request sent twice fails on its own first success; the id in the metadata tells. */
async function findOurs({ link }: S3Writer, write: S3Write, sum: Sum): Promise<S3Written | undefined> {
  const found = await rawHead(link, write.key, write.signal, write.mode === "crc32");
  if (found?.Metadata?.[writeIdName] !== write.id) return undefined;
  const proven = write.mode !== "none" && sum.proves(found);
  return { etag: found.ETag ?? "", bytes: found.ContentLength ?? 0, proven, versionId: found.VersionId };
}

/**
 * HEAD tells whether the lock was kept: Ceph before 20 forgets it for uploads in parts, and then takes it afterwards;
 * others take the headers and know no locks. What is stored and cannot be locked is removed again.
 */
async function assertLocked(
  writer: S3Writer,
  { key, signal }: S3Write,
  { versionId }: S3Written,
  retainUntil: Date,
): Promise<{ retainedUntil: Date }> {
  const { link } = writer;
  const target = {
    Bucket: link.bucket,
    Key: link.prefix + key,
    ...(versionId === undefined ? {} : { VersionId: versionId }),
  };
  const first = await lockOf(writer, key, retainUntil, signal);
  if (first !== undefined) return { retainedUntil: first };
  const mode = lockSettings(link.config, retainUntil).ObjectLockMode ?? "GOVERNANCE";
  const put = new PutObjectRetentionCommand({ ...target, Retention: { Mode: mode, RetainUntilDate: retainUntil } });
  await unlessRefused(link.request(`locking ${key}`, signal, (send) => link.client.send(put, send)));
  const second = await lockOf(writer, key, retainUntil, signal);
  if (second !== undefined) return { retainedUntil: second };
  await link.request(`removing ${key}`, signal, (send) => link.client.send(new DeleteObjectCommand(target), send));
  throw new PgkitError("store-unsupported", `${link.where} took the lock of ${key} and did not keep it`, {
    hint: "was the bucket made with object lock, and may this user read an object's retention?",
  });
}

async function lockOf(
  { link }: S3Writer,
  key: string,
  wanted: Date,
  signal: AbortSignal | undefined,
): Promise<Date | undefined> {
  const until = (await rawHead(link, key, signal))?.ObjectLockRetainUntilDate;
  // The server may count in whole seconds.
  return until !== undefined && until.getTime() >= wanted.getTime() - 1_000 ? until : undefined;
}
