import type { Transform } from "node:stream";
import { promisify } from "node:util";
import { constants, createZstdDecompress, zstdCompress, zstdDecompress } from "node:zlib";
import { PgkitError } from "../lib/errors.ts";
import { type Bytes, chunksOf, collect, release, through } from "../lib/streams.ts";
import { decryptAge, encryptAge } from "./age.ts";

export type Encoding = "zstd" | "age";

export interface Compression {
  /** 1 to 19; negative levels are faster still. */
  level: number;
  /** Blocks compressed at the same time, each on a core of its own. */
  threads: number;
}

export interface Encoder {
  encoding: Encoding[];
  compression: Compression;
  recipients: readonly string[];
}

const blockBytes = 1024 * 1024;
const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);

/** Applies the encodings in their order; what comes out is read by `zstd -d` and `age -d` in the reverse order. */
export function encode(source: Bytes, { encoding, compression, recipients }: Encoder): Bytes {
  return encoding.reduce<Bytes>(
    (bytes, step) => (step === "zstd" ? compressZstd(bytes, compression) : encryptAge(bytes, recipients)),
    source,
  );
}

/** Larger pieces of what is decompressed are slower: each is a fresh buffer, and its pages fault in. */
const pieceBytes = 256 * 1024;
/** Unless the reader frees each at once, and the next has the same pages: then fewer pieces are less work. */
export const freedPieceBytes = 512 * 1024;

/** Undoes `encode`. `where` names the object in errors, all of which are `object-corrupt` or about the identity. */
export function decode(
  source: Bytes,
  encoding: readonly Encoding[],
  identities: () => Promise<readonly string[]>,
  where: string,
  chunkSize = pieceBytes,
): Bytes {
  return encoding.reduceRight<Bytes>(
    (bytes, step) =>
      step === "zstd" ? decompressZstd(bytes, where, chunkSize) : decryptWith(bytes, identities, where),
    source,
  );
}

/** What fits in memory as one zstd frame, which tells its length at its beginning and cannot be cut unnoticed. */
export async function compressFrame(content: Uint8Array, { level }: Compression): Promise<Buffer> {
  // With Node's own small chunks, each of which comes back to this thread, a segment took a third longer. What it does not
  // fill of one large chunk costs nothing but a mark of the heap more often: half of it was 12 % quicker, and 10 MB more, as
  // zstd then wants room of its own.
  const chunkSize = Math.min(wholeBytes, Math.max(64, content.length + (content.length >> 8) + 1024));
  return await compress(content, { params: compressionParams(level), chunkSize });
}

/** Room for a WAL segment of the usual size at once: with Node's own chunks of 16 KiB it took five times as long. */
const wholeBytes = 16 * 1024 * 1024 + 1024;

/** Undoes any encoding of what fits in memory: `decode`, only faster, as it works in the thread pool. */
export async function decodeWhole(
  stored: Buffer,
  encoding: readonly Encoding[],
  identities: () => Promise<readonly string[]>,
  where: string,
): Promise<Buffer> {
  const isSealed = encoding.at(-1) === "age";
  const packed = isSealed ? await collect(decryptWith(once(stored), identities, where)) : stored;
  if (!encoding.includes("zstd")) return packed;
  try {
    const content = await decompress(packed, { chunkSize: wholeBytes });
    if (isSealed) release(packed);
    return content;
  } catch (error) {
    throw isZlibError(error) ? unreadable(where, error) : error;
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/**
 * One zstd frame a block, which is how zstd's own format puts files one after the other. Node's streaming compressor
 * cannot use threads (with `nbWorkers` set it fails with "push() after EOF" on Node 24), its one-shot one runs in the
 * thread pool.
 */
async function* compressZstd(source: Bytes, { level, threads }: Compression): AsyncGenerator<Uint8Array> {
  const params = compressionParams(level);
  const underWay: Promise<Buffer>[] = [];
  let blocks = 0;
  try {
    for await (const block of chunksOf(source, blockBytes)) {
      blocks++;
      underWay.push(compress(block, { params }));
      const first = underWay.length > threads ? underWay.shift() : undefined;
      if (first !== undefined) yield await first;
    }
    if (blocks === 0) underWay.push(compress(Buffer.alloc(0), { params }));
    for (let first = underWay.shift(); first !== undefined; first = underWay.shift()) yield await first;
  } finally {
    await Promise.allSettled(underWay);
  }
}

async function* decompressZstd(source: Bytes, where: string, chunkSize: number): AsyncGenerator<Uint8Array> {
  try {
    yield* through(source, zstdDecompressor(chunkSize));
  } catch (cause) {
    if (!isZlibError(cause)) throw cause;
    throw unreadable(where, cause);
  }
}

/**
 * Gives pieces of at most `chunkSize`, and works ahead of whoever takes them. As a stream of bytes it would begin with the
 * next piece only when the last is taken, or put together what waits, which is one more copy. It asks for the next piece
 * of what is compressed when it has done with the last, which may be freed then.
 */
export function zstdDecompressor(chunkSize: number): Transform {
  const ahead = { readableObjectMode: true, readableHighWaterMark: 3, writableHighWaterMark: 1 };
  return createZstdDecompress({ chunkSize, ...ahead });
}

async function* decryptWith(
  source: Bytes,
  identities: () => Promise<readonly string[]>,
  where: string,
): AsyncGenerator<Uint8Array> {
  yield* decryptAge(source, await identities(), where);
}

function compressionParams(level: number): Record<number, number> {
  return { [constants.ZSTD_c_compressionLevel]: level, [constants.ZSTD_c_checksumFlag]: 1 };
}

function unreadable(where: string, cause: Error): PgkitError {
  return new PgkitError("object-corrupt", `${where} is damaged: zstd cannot read it (${cause.message})`, {
    hint: "restore from another backup; pgkit verify tells which are whole",
    cause,
  });
}

function isZlibError(error: unknown): error is Error {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return code.startsWith("ZSTD_") || code.startsWith("Z_");
}
