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
  const { handle, signal, ours } = writing;
  const proof = proofOf(writing);
  let batch: Buffer[] = [];
  let [gathered, written, begun] = [0, 0, 0];
  let writes: Promise<void> = Promise.resolve();
  let behind: Promise<void> = Promise.resolve();
  const flush = async () => {
    await writes;
    if (written - begun >= behindBytes) {
      await behind;
      begun = written;
      behind = prove(written);
    }
    writes = writeAll(batch);
    // Awaited with the next batch or at the end; until then a failure must not count as unobserved.
    writes.catch(() => undefined);
    [batch, gathered] = [[], 0];
  };
  const writeAll = async (chunks: Buffer[]) => {
    const total = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    const { bytesWritten } = total === 0 ? { bytesWritten: 0 } : await handle.writev(chunks).catch(throwOurs);
    if (bytesWritten < total) await handle.writeFile(Buffer.concat(chunks).subarray(bytesWritten)).catch(throwOurs);
    written += total;
  };
  // What such a sync meets, the one at the end is not told again: so each is awaited.
  const prove = (end: number) => {
    const proving = handle
      .datasync()
      .catch(throwOurs)
      .then(() => proof.readTo(end));
    proving.catch(() => undefined);
    return proving;
  };
  const throwOurs = (error: unknown): never => {
    throw ours(error);
  };
  try {
    for await (const chunk of chunksOf(body, signal)) {
      proof.wrote(chunk);
      batch.push(chunk);
      gathered += chunk.length;
      if (gathered >= batchBytes) await flush();
    }
    await flush();
  } finally {
    // The handle is closed after this, so nothing may be under way.
    await Promise.allSettled([writes, behind]);
  }
  await writes;
  await behind;
  await makeTimeUnique(handle)
    .then(() => handle.sync())
    .catch(throwOurs);
  await proof.readTo(written);
  proof.assertSame();
}

const readBytes = 512 * 1024;

/** Compares what was written with what is there, by length and CRC-32 of the whole. */
function proofOf({ handle, ours, where }: Writing) {
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
        const { bytesRead } = await handle
          .read(buffer, 0, Math.min(buffer.length, end - backBytes), backBytes)
          .catch((error: unknown) => {
            throw ours(error);
          });
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
