import { Readable, Transform } from "node:stream";
import { PgkitError } from "../lib/errors.ts";
import { cancelled, onCancel } from "./cancel.ts";
import type { ObjectBody } from "./store.ts";

export interface BodyPromise {
  key: string;
  etag: string;
  /** How many bytes the store promised; fewer or more fail the stream. */
  bytes: number;
  /** Turns an error of the source into ours; told how many bytes had come. */
  fail: (error: unknown, read: number) => PgkitError;
  signal?: AbortSignal | undefined;
  /** Fails when the source says nothing for this long while the reader waits; a slow reader does not count. */
  idleMs?: number | undefined;
  /** As of `ObjectBody`; its pieces are large. */
  owned?: true;
}

/** `source` as a body that either gives all the promised bytes or fails: it never just ends. */
export function objectBody(source: Readable, promise: BodyPromise): ObjectBody {
  let read = 0;
  const { owned } = promise;
  const body = new Transform({
    // A stream of bytes would put together what waits, into memory that nobody frees.
    ...(owned ? { readableObjectMode: true, readableHighWaterMark: 1 } : { readableHighWaterMark: 256 * 1024 }),
    transform(chunk: Buffer, _encoding, done) {
      read += chunk.length;
      if (read > promise.bytes) done(cut(promise, read));
      else done(null, chunk);
    },
    flush: (done) => done(read === promise.bytes ? null : cut(promise, read)),
  });
  const stopListening = onCancel(promise.signal, (error) => body.destroy(error));
  const stopWatching = watchIdle(source, body, promise, () => read);
  source.on("error", (error) => body.destroy(promise.fail(error, read)));
  source.on("close", () => {
    if (!source.readableEnded && !body.destroyed) body.destroy(cut(promise, read));
  });
  body.on("close", () => {
    stopListening();
    stopWatching();
    source.destroy();
  });
  // Without a listener an error that comes before the caller begins to read would end the process; the caller still
  // meets it, as a destroyed stream gives its error to whoever reads it later.
  body.on("error", () => undefined);
  source.pipe(body);
  return Object.assign(body, { etag: promise.etag, ...(owned && { owned }) });
}

function cut(promise: BodyPromise, read: number): PgkitError {
  return new PgkitError("store-failed", `${promise.key} was cut after ${read} of ${promise.bytes} bytes`);
}

function watchIdle(source: Readable, body: Transform, promise: BodyPromise, read: () => number): () => void {
  const { idleMs } = promise;
  if (idleMs === undefined) return () => undefined;
  let seen = -1;
  const timer = setInterval(() => {
    const waits = body.readableLength === 0 && !source.readableEnded;
    if (waits && read() === seen) {
      const message = `no byte of ${promise.key} came for ${idleMs} ms, after ${read()} of ${promise.bytes}`;
      body.destroy(new PgkitError("store-failed", message));
    }
    seen = waits ? read() : -1;
  }, idleMs);
  timer.unref();
  return () => clearInterval(timer);
}

/** `source`, each chunk of which is shown to `onChunk` before it goes on; what that throws fails the body. */
export function tapBody(source: ObjectBody, onChunk: (chunk: Buffer) => void | Promise<void>): ObjectBody {
  const { etag, owned } = source;
  const body = new Transform({
    ...(owned && { readableObjectMode: true, readableHighWaterMark: 1 }),
    transform(chunk: Buffer, _encoding, done) {
      shown(onChunk, chunk).then(() => done(null, chunk), done);
    },
  });
  source.on("error", (error) => body.destroy(error));
  body.on("close", () => source.destroy());
  body.on("error", () => undefined);
  source.pipe(body);
  return Object.assign(body, { etag, ...(owned && { owned }) });
}

async function shown(onChunk: (chunk: Buffer) => void | Promise<void>, chunk: Buffer): Promise<void> {
  await onChunk(chunk);
}

/**
 * A stream of what `chunks` gives. Destroying it calls `onDestroy` at once, which ends whatever `chunks` is waiting for;
 * `Readable.from` would first wait for the next chunk, and so forever for one that never comes.
 */
export function streamOf(chunks: AsyncGenerator<Buffer>, onDestroy: (error: Error | null) => void): Readable {
  return new Readable({
    highWaterMark: 256 * 1024,
    read() {
      chunks.next().then(
        ({ done, value }) => this.push(done === true ? null : value),
        (error: Error) => this.destroy(error),
      );
    },
    destroy(error, done) {
      onDestroy(error);
      chunks.return(undefined).catch(() => undefined);
      done(error);
    },
  });
}

/** The chunks of what is to be stored; destroys the stream when left early or when the signal is aborted. */
export async function* chunksOf(
  body: Readable | Uint8Array,
  signal: AbortSignal | undefined,
): AsyncGenerator<Buffer, void, undefined> {
  if (body instanceof Uint8Array) {
    if (signal?.aborted === true) throw cancelled(signal);
    yield asBuffer(body);
    return;
  }
  const stopListening = onCancel(signal, (error) => body.destroy(error));
  try {
    for await (const chunk of body)
      yield typeof chunk === "string" ? Buffer.from(chunk) : asBuffer(chunk as Uint8Array);
  } finally {
    stopListening();
  }
}

/** The same memory as a Buffer. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** All of a body in memory; only for what is known to be small. */
export async function readAll(body: Readable | Uint8Array, signal?: AbortSignal): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of chunksOf(body, signal)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Ends a body that will not be read, so that its producer stops. */
export function discard(body: Readable | Uint8Array, error?: Error): void {
  if (body instanceof Uint8Array) return;
  body.on("error", () => undefined);
  body.destroy(error);
}
