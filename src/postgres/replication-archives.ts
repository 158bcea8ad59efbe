import { PgkitError } from "../lib/errors.ts";
import type { Bytes } from "../lib/streams.ts";
import { type ArchiveQueue, archiveQueue, type Flow } from "./archive-queue.ts";

/** `base.tar`, `<oid>.tar` for a tablespace, both with `.zst` where the server compressed, and `backup_manifest`. */
export interface Archive {
  name: string;
  /** Take it to its end before the next archive. */
  content: Bytes;
}

export interface ArchiveStream {
  /** Takes the payload of one CopyData message of BASE_BACKUP. */
  onCopyData(payload: Buffer): void;
  /** The archives in the order that the server sends them. */
  archives(): AsyncGenerator<Archive>;
  /** The command has ended well. */
  end(): void;
  /** The archives fail with this, once what has come is taken. */
  fail(error: unknown): void;
  /** Nobody takes them any more. */
  drop(): void;
}

/** Messages have up to 32 KiB; larger pieces are cheaper to pass on, much larger ones cost page faults. */
const pieceBytes = 256 * 1024;
/** So much waits here before the server has to. */
const waitingBytes = 8 * pieceBytes;

/**
 * Makes archives of the messages of BASE_BACKUP. Each payload is copied once, since the driver reuses its buffer. While too
 * much waits, nothing more is read from the server.
 */
export function archiveStream(flow: Flow, onProgress: (bytes: number) => void): ArchiveStream {
  const queue = archiveQueue(flow, waitingBytes);
  const pieces = gathered((bytes) => queue.push({ type: "data", bytes }));
  const begin = (name: string) => {
    pieces.flush();
    queue.push({ type: "archive", name });
  };
  return {
    onCopyData: (payload) => {
      switch (String.fromCharCode(payload[0] ?? 0)) {
        case "d":
          return pieces.add(payload, 1);
        case "p":
          return onProgress(Number(payload.readBigInt64BE(1)));
        case "n":
          return begin(payload.toString("utf8", 1, payload.indexOf(0, 1)));
        case "m":
          return begin("backup_manifest");
        default:
          throw new PgkitError("postgres-failed", `BASE_BACKUP sent a message of the unknown kind ${payload[0]}`);
      }
    },
    archives: () => archivesOf(queue),
    end: () => {
      pieces.flush();
      queue.end();
    },
    fail: queue.fail,
    drop: queue.drop,
  };
}

/** Copies what is added into pieces of one size, the last before a flush shorter. */
function gathered(onPiece: (bytes: Buffer) => void) {
  let piece = Buffer.allocUnsafeSlow(pieceBytes);
  let filled = 0;
  const flush = () => {
    if (filled > 0) onPiece(piece.subarray(0, filled));
    if (filled > 0) piece = Buffer.allocUnsafeSlow(pieceBytes);
    filled = 0;
  };
  const add = (bytes: Buffer, from: number) => {
    for (let offset = from; offset < bytes.length; ) {
      const copied = bytes.copy(piece, filled, offset);
      offset += copied;
      filled += copied;
      if (filled === pieceBytes) flush();
    }
  };
  return { add, flush };
}

async function* archivesOf(queue: ArchiveQueue): AsyncGenerator<Archive> {
  for (let event = await queue.next(); event !== undefined; event = await queue.next()) {
    // What an archive's taker has left of it.
    if (event.type === "archive") yield { name: event.name, content: contentOf(queue) };
  }
}

async function* contentOf(queue: ArchiveQueue): AsyncGenerator<Uint8Array> {
  for (let event = await queue.next(); event !== undefined; event = await queue.next()) {
    if (event.type === "archive") return queue.unread(event);
    yield event.bytes;
  }
}
