import type { Readable } from "node:stream";

/**
 * The contract of a place that keeps objects: a folder, S3, Azure, memory, and every decorator over them. The promises
 * are one `it` each in `test/store/conformance.ts`, which runs over all of them.
 *
 * Keys are relative paths of `/`-separated segments of `[A-Za-z0-9._=+-]`, never starting or ending with `/`, no
 * segment `.` or `..`. Errors are PgkitErrors with the codes named here; none holds a credential.
 */
export interface ObjectReader {
  /** The URL of the store for messages; never holds a credential. */
  readonly where: string;
  /**
   * The bytes of an object, or of an inclusive byte range of it. A body that is cut fails the stream with
   * `store-failed`: it never just ends. A range that begins at or past the end is empty. Fails with `object-missing` only
   * where the store said that it is not there. The caller reads the body to its end or destroys it.
   */
  get(key: string, options?: GetOptions): Promise<ObjectBody>;
  /** What is known of an object; `undefined` only where the store said that it is not there. */
  head(key: string, options?: SignalOption): Promise<ObjectInfo | undefined>;
  /** Every object whose key starts with `prefix` (any string, not only a folder), in byte order of keys, across pages. */
  list(prefix: string, options?: ListOptions): AsyncIterable<ObjectInfo>;
}

export interface ObjectStore extends ObjectReader {
  /**
   * Stores all of `body` or nothing: a body that fails, a signal or a cut connection leaves the key as it was. With
   * `when: "absent"` fails with `condition-failed` if the key exists; with an etag, if it is another one. A store
   * that cannot keep the condition fails with `store-unsupported` and writes nothing. A body that fails, fails `put`
   * with its own error; when `put` fails, `body` is destroyed.
   */
  put(key: string, body: Readable | Uint8Array, options?: PutOptions): Promise<StoredObject>;
  /** Removes objects. A missing key is not an error. Fails with `store-denied` when one is under retention. */
  delete(keys: readonly string[], options?: SignalOption): Promise<void>;
  /** What this store really does, probed once a process by writing under `probe/` and cleaned up after. */
  capabilities(options?: SignalOption): Promise<StoreCapabilities>;
  /** Unfinished uploads; left out where the store keeps none, or removes them itself. */
  readonly uploads?: StrayUploads | undefined;
}

/** What runs that were killed left behind: invisible to `list`, yet it takes space and, with S3, costs money. */
export interface StrayUploads {
  /** Unfinished uploads, also those of runs under way, in no order. */
  list(options?: UploadsOptions): AsyncIterable<StrayUpload>;
  /** Removes those begun before `olderThan`; gives how many they were. */
  abort(olderThan: Date, options?: UploadsOptions): Promise<number>;
}

export interface UploadsOptions extends SignalOption {
  /** Only uploads to keys that start so; a folder does not know the keys of its leftovers and ignores this. */
  prefix?: string | undefined;
}

export interface StrayUpload {
  key: string;
  startedAt: Date;
}

/** The bytes of an object as they arrive, and which version of it they are. */
export type ObjectBody = Readable & {
  readonly etag: string;
  /** Nobody else holds the memory of its pieces: a reader may free each. */
  readonly owned?: true;
};

export type Condition = "absent" | { etag: string };

export interface SignalOption {
  signal?: AbortSignal | undefined;
}

export interface GetOptions extends SignalOption {
  /** First and last byte, both inclusive, counted from 0; the last may lie past the end. */
  range?: { first: number; last: number } | undefined;
  /** Fails with `condition-failed` when the object is another version by now. */
  etag?: string | undefined;
}

export interface ListOptions extends SignalOption {
  /** Only keys greater than this one. */
  after?: string | undefined;
}

export interface PutOptions extends SignalOption {
  when?: Condition | undefined;
  /** Object lock: the store must refuse to remove the object before this moment. */
  retainUntil?: Date | undefined;
}

export interface ObjectInfo {
  key: string;
  bytes: number;
  /** Opaque; changes whenever the content does. */
  etag: string;
  modifiedAt: Date;
  /** Set by `head` where the object is under retention. */
  retainedUntil?: Date;
}

export type Proven = "store-checksum" | "read-back";

export interface StoredObject extends ObjectInfo {
  /**
   * How what is stored was shown to be the bytes sent. `store-checksum`: the store itself computed a checksum over what
   * it stored, returned it, and it equals that of the bytes sent; and a probe has shown that it does not merely echo.
   * `read-back`: the store has read all of it again. False means: only reading back can tell.
   */
  proven: Proven | false;
}

export interface StoreCapabilities {
  /** `when: "absent"` is honoured, also between two writers at the same moment. */
  createIfAbsent: boolean;
  /** `when: { etag }` is honoured. */
  compareAndSet: boolean;
  /** The checksum that `proven` rests on; `read-back` where the store reads everything again itself, or `none`. */
  checksum: "crc32" | "md5" | "read-back" | "none";
  /** `retainUntil` is kept (seen by `head`), not only accepted. */
  objectLock: boolean;
  /** The store's clock minus ours, in ms; 0 where it has none of its own. */
  clockSkewMs: number;
}
