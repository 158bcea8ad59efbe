import type { FileHandle } from "node:fs/promises";
import type { Readable } from "node:stream";
import { crc32 } from "node:zlib";
import { PgkitError } from "../../lib/errors.ts";
import { chunksOf } from "../body.ts";
import { makeTimeUnique } from "./temp.ts";

export interface Writing {
  handle: FileHandle;
  signal: AbortSignal | undefined;
  /** What the file system's own errors become. */
  ours: (error: unknown) => PgkitError;
  /** For messages. */
  where: string;
}

const batchBytes = 1024 * 1024;
/** After so many bytes the disk begins to write, and they are read back: left to the end, a backup would wait for both. */
const behindBytes = 64 * 1024 * 1024;

/**
 * Writes a file's content, has it on the disk and reads all of it back: fails with `object-corrupt` where the file system
 * gives other bytes than those written, else with the body's own error as it is, or with `ours`. What is read back comes
 * out of the system's cache where the disk is not asked.
 */
export async function writeContent(body: Readable | Uint8Array, writing: Writing): Promise<void> {
  const { handle, signal } = writing;
  const proof = proofOf(writing);
  const behind = provingBehind(writing, proof);
  let batch: Buffer[] = [];
  let [gathered, written] = [0, 0];
  let writes: Promise<number> = Promise.resolve(0);
  const flush = async () => {
    written += await writes;
    await behind.wrote(written);
    writes = writeAll(batch, writing);
    // Awaited with the next batch or at the end; until then a failure must not count as unobserved.
    writes.catch(() => undefined);
    [batch, gathered] = [[], 0];
  };
  try {
    for await (const chunk of chunksOf(body, signal)) {
      proof.wrote(chunk);
      batch.push(chunk);
      gathered += chunk.length;
      if (gathered >= batchBytes) await flush();
    }
    await flush();
    written += await writes;
  } finally {
    // The handle is closed after this, so nothing may be under way.
    await Promise.allSettled([writes, behind.done()]);
  }
  await behind.done();
  await ours(writing, makeTimeUnique(handle));
  await ours(writing, handle.sync());
  await proof.readTo(written);
  proof.assertSame();
}

/** Gives how many bytes it wrote. */
async function writeAll(chunks: Buffer[], writing: Writing): Promise<number> {
  const { handle } = writing;
  const total = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const { bytesWritten } = total === 0 ? { bytesWritten: 0 } : await ours(writing, handle.writev(chunks));
  if (bytesWritten < total) await ours(writing, handle.writeFile(Buffer.concat(chunks).subarray(bytesWritten)));
  return total;
}

/** What such a sync meets, the one at the end is not told again: so each is awaited. */
function provingBehind(writing: Writing, proof: ContentProof) {
  let begun = 0;
  let proving: Promise<void> = Promise.resolve();
  return {
    wrote: async (bytes: number) => {
      if (bytes - begun < behindBytes) return;
      begun = bytes;
      await proving;
      proving = ours(writing, writing.handle.datasync()).then(() => proof.readTo(bytes));
      proving.catch(() => undefined);
    },
    done: () => proving,
  };
}

async function ours<T>(writing: Writing, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw writing.ours(error);
  }
}

const readBytes = 512 * 1024;

type ContentProof = ReturnType<typeof proofOf>;

/** Compares what was written with what is there, by length and CRC-32 of the whole. */
function proofOf(writing: Writing) {
  const { handle, where } = writing;
  let [sent, sentBytes, back, backBytes] = [0, 0, 0, 0];
  let buffer: Buffer | undefined;
  return {
    wrote: (chunk: Uint8Array) => {
      sent = crc32(chunk, sent);
      sentBytes += chunk.length;
    },
    readTo: async (end: number) => {
      buffer ??= Buffer.allocUnsafeSlow(Math.min(readBytes, Math.max(end, 1)));
      while (backBytes < end) {
        const length = Math.min(buffer.length, end - backBytes);
        const { bytesRead } = await ours(writing, handle.read(buffer, 0, length, backBytes));
        if (bytesRead === 0) return;
        back = crc32(buffer.subarray(0, bytesRead), back);
        backBytes += bytesRead;
      }
    },
    assertSame: () => {
      if (backBytes === sentBytes && back === sent) return;
      const found = `${backBytes} bytes of CRC-32 ${back.toString(16)}`;
      const message = `${where}: the file system gave back ${found}, and ${sentBytes} of ${sent.toString(16)} were written`;
      throw new PgkitError("object-corrupt", message, {
        hint: "is the disk failing? nothing was stored; try again, or use another disk",
      });
    },
  };
}
