import type { Readable } from "node:stream";
import { CompleteMultipartUploadCommand, CreateMultipartUploadCommand, UploadPartCommand } from "@aws-sdk/client-s3";
import { isPgkitError, PgkitError } from "../../lib/errors.ts";
import { discard } from "../body.ts";
import type { Part } from "../parts.ts";
import { sendParts } from "../send-parts.ts";
import { type Answered, type RunningSum, runningSum, sumOf } from "./checksum.ts";
import { answerOf } from "./errors.ts";
import type { S3Link } from "./link.ts";
import { bareEtag, rawHead } from "./read.ts";
import { abortUpload } from "./uploads.ts";
import { failedCondition, type S3Write, type S3Writer, type S3Written, writeIdName } from "./write.ts";
import { lockSettings, readEncryption, writeSettings } from "./write-input.ts";

const partsAtMost = 10_000;
const abortTimeoutMs = 20_000;

interface SentPart {
  PartNumber: number;
  ETag: string;
  ChecksumCRC32?: string;
}

/**
 * Stores `first` and `rest` in parts, several under way at once. Whatever fails, the upload is aborted before this fails:
 * unfinished ones are invisible and cost money. `body` is where the parts come from; it ends with a failure.
 */
export async function putParts(
  writer: S3Writer,
  write: S3Write,
  first: Part,
  rest: AsyncGenerator<Part>,
  body: Readable | Uint8Array,
): Promise<S3Written> {
  const uploadId = await createUpload(writer, write);
  try {
    const sum = runningSum(write.mode);
    const { sent, bytes } = await sendParts(first, rest, {
      parallel: writer.link.config.parallelParts ?? 4,
      body,
      signal: write.signal,
      send: (part, number, signal) => sendPart(writer, { ...write, signal }, uploadId, sum, number, part),
    });
    return await complete(writer, write, uploadId, sum, sent, bytes);
  } catch (error) {
    discard(body);
    await giveUp(writer, write.key, uploadId);
    throw error;
  }
}

async function createUpload({ link }: S3Writer, write: S3Write): Promise<string> {
  const input = {
    Bucket: link.bucket,
    Key: link.prefix + write.key,
    Metadata: { [writeIdName]: write.id },
    ...(write.mode === "crc32" ? { ChecksumAlgorithm: "CRC32" as const, ChecksumType: "FULL_OBJECT" as const } : {}),
    ...lockSettings(link.config, write.retainUntil),
    ...writeSettings(link.config),
  };
  const { UploadId } = await link.request(`beginning ${write.key}`, write.signal, (send) =>
    link.client.send(new CreateMultipartUploadCommand(input), send),
  );
  if (UploadId === undefined) throw new PgkitError("store-failed", `${link.where} began ${write.key} without an id`);
  return UploadId;
}

async function sendPart(
  writer: S3Writer,
  write: S3Write,
  uploadId: string,
  running: RunningSum,
  number: number,
  part: Part,
): Promise<SentPart> {
  const { link } = writer;
  if (number > partsAtMost) throw tooLarge(writer, write.key);
  const sum = sumOf(write.mode, part.bytes);
  running.add(part.bytes, sum);
  const input = {
    Bucket: link.bucket,
    Key: link.prefix + write.key,
    UploadId: uploadId,
    PartNumber: number,
    Body: part.bytes,
    ContentLength: part.bytes.length,
    ...sum.header,
    ...readEncryption(link.config),
  };
  const { ETag = "" } = await link.request(`storing part ${number} of ${write.key}`, write.signal, (send) =>
    link.client.send(new UploadPartCommand(input), send),
  );
  const { ChecksumCRC32 } = sum.header;
  return { PartNumber: number, ETag, ...(ChecksumCRC32 === undefined ? {} : { ChecksumCRC32 }) };
}

async function complete(
  writer: S3Writer,
  write: S3Write,
  uploadId: string,
  sum: RunningSum,
  parts: SentPart[],
  bytes: number,
): Promise<S3Written> {
  const { link } = writer;
  const input = {
    Bucket: link.bucket,
    Key: link.prefix + write.key,
    UploadId: uploadId,
    MultipartUpload: { Parts: parts },
    ...sum.header(),
    ...write.condition,
    ...readEncryption(link.config),
  };
  const written = (answer: Answered & { VersionId?: string | undefined }) => {
    return { etag: bareEtag(answer.ETag), bytes, proven: sum.proves(answer), versionId: answer.VersionId };
  };
  try {
    const answer = await link.request(`completing ${write.key}`, write.signal, (send) =>
      link.client.send(new CompleteMultipartUploadCommand(input), send),
    );
    // Ceph 16.2 leaves the etag empty here.
    return written(bareEtag(answer.ETag) === "" ? ((await findOurs(link, write, bytes)) ?? answer) : answer);
  } catch (error) {
    // Sent twice, or left without an answer, it may have done its work all the same; only the object itself can tell.
    const answer = answerOf(error);
    const unclear = answer !== undefined && (answer.attempts > 1 || (answer.status ?? 500) >= 500);
    const found = unclear ? await findOurs(link, write, bytes) : undefined;
    if (found !== undefined) return written(found);
    if (isPgkitError(error, "condition-failed")) throw failedCondition(link, write, error);
    throw error;
  }
}

/** The object, where it is what this write stored. */
async function findOurs(link: S3Link, write: S3Write, bytes: number) {
  const found = await rawHead(link, write.key, write.signal, write.mode === "crc32");
  return found?.Metadata?.[writeIdName] === write.id && found.ContentLength === bytes ? found : undefined;
}

async function giveUp({ link }: S3Writer, key: string, uploadId: string): Promise<void> {
  try {
    // By a signal of its own, as the write's own is often what failed it.
    await abortUpload(link, key, uploadId, AbortSignal.timeout(abortTimeoutMs));
  } catch (error) {
    // The failure that led here is the one to report; an upload left over is found by `check` and removed by `prune`.
    if (!(error instanceof PgkitError)) throw error;
  }
}

function tooLarge({ link, partBytes }: S3Writer, key: string): PgkitError {
  const message = `${key} is larger than ${partsAtMost} parts of ${partBytes} bytes, which is the most for ${link.where}`;
  return new PgkitError("store-unsupported", message, { hint: "set storage.partBytes to a larger number" });
}
