import { Readable } from "node:stream";
import { crc32 } from "node:zlib";
import { PgkitError } from "../lib/errors.ts";
import { type Clock, systemClock } from "../lib/time.ts";
import { chunksOf, discard, objectBody } from "./body.ts";
import { throwIfCancelled } from "./cancel.ts";
import { assertKey } from "./key.ts";
import type {
  Condition,
  GetOptions,
  ListOptions,
  ObjectBody,
  ObjectInfo,
  ObjectStore,
  PutOptions,
  StoredObject,
} from "./store.ts";

export interface MemoryStoreOptions {
  clock?: Clock;
  /** Promises it shall not keep, to see what a caller makes of a poorer store. */
  lacks?: readonly ("createIfAbsent" | "compareAndSet" | "checksum" | "objectLock")[];
}

interface Kept {
  info: ObjectInfo;
  content: Buffer;
}

interface Shelf {
  objects: Map<string, Kept>;
  clock: Clock;
  has: (promise: Promised) => boolean;
  nextEtag: () => string;
}

type Promised = NonNullable<MemoryStoreOptions["lacks"]>[number];

/** A store in the memory of this process, keeping every promise of the contract; for tests. */
export function memoryStore({ clock = systemClock, lacks = [] }: MemoryStoreOptions = {}): ObjectStore {
  let writes = 0;
  const nextEtag = () => {
    writes += 1;
    return `m${writes}`;
  };
  const shelf: Shelf = { objects: new Map(), clock, has: (promise) => !lacks.includes(promise), nextEtag };
  const { objects, has } = shelf;
  return {
    where: "memory:",
    get: async (key, options = {}) => read(shelf, key, options),
    async head(key, { signal } = {}) {
      check(key, signal);
      const kept = objects.get(key);
      return kept === undefined ? undefined : { ...kept.info };
    },
    list: (prefix, options = {}) => list(shelf, prefix, options),
    put: (key, body, options = {}) => put(shelf, key, body, options),
    async delete(keys, { signal } = {}) {
      for (const key of keys) check(key, signal);
      for (const key of keys) assertNotRetained(shelf, key);
      for (const key of keys) objects.delete(key);
    },
    async capabilities({ signal } = {}) {
      throwIfCancelled(signal);
      const checksum = has("checksum") ? "crc32" : "none";
      const conditions = { createIfAbsent: has("createIfAbsent"), compareAndSet: has("compareAndSet") };
      return { ...conditions, checksum, objectLock: has("objectLock"), clockSkewMs: 0 };
    },
  };
}

function read({ objects }: Shelf, key: string, { range, etag, signal }: GetOptions): ObjectBody {
  check(key, signal);
  const kept = objects.get(key);
  if (kept === undefined) throw new PgkitError("object-missing", `memory: has no ${key}`);
  if (etag !== undefined && etag !== kept.info.etag) throw changed(key);
  const content = range === undefined ? kept.content : kept.content.subarray(range.first, range.last + 1);
  return objectBody(Readable.from(slices(content), { objectMode: false }), {
    key,
    etag: kept.info.etag,
    bytes: content.length,
    signal,
    fail: (error) => new PgkitError("store-failed", `reading ${key} failed`, { cause: error }),
  });
}

async function* list(
  { objects }: Shelf,
  prefix: string,
  { after = "", signal }: ListOptions,
): AsyncGenerator<ObjectInfo> {
  throwIfCancelled(signal);
  const keys = [...objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort();
  for (const key of keys) {
    throwIfCancelled(signal);
    const kept = objects.get(key);
    if (kept !== undefined) yield { ...kept.info };
  }
}

async function put(shelf: Shelf, key: string, body: Readable | Uint8Array, options: PutOptions): Promise<StoredObject> {
  const { when, retainUntil, signal } = options;
  const chunks: Buffer[] = [];
  try {
    check(key, signal);
    assertSupported(key, options, shelf.has);
    assertCondition(shelf, key, when);
    for await (const chunk of chunksOf(body, signal)) chunks.push(chunk);
    throwIfCancelled(signal);
  } catch (error) {
    discard(body);
    throw error;
  }
  // From here to the end nothing waits, so that comparing and storing are one step.
  assertCondition(shelf, key, when);
  assertNotRetained(shelf, key);
  const content = Buffer.concat(chunks);
  const retained = retainUntil === undefined ? {} : { retainedUntil: retainUntil };
  const made = { etag: shelf.nextEtag(), modifiedAt: shelf.clock.now() };
  const info = { key, bytes: content.length, ...made, ...retained };
  shelf.objects.set(key, { info, content });
  return { ...info, proven: shelf.has("checksum") && sum(chunks) === sum([content]) && "store-checksum" };
}

function check(key: string, signal: AbortSignal | undefined): void {
  assertKey(key);
  throwIfCancelled(signal);
}

function assertSupported(key: string, { when, retainUntil }: PutOptions, has: Shelf["has"]): void {
  const lacking =
    (when === "absent" && !has("createIfAbsent")) ||
    (typeof when === "object" && !has("compareAndSet")) ||
    (retainUntil !== undefined && !has("objectLock"));
  if (lacking) throw new PgkitError("store-unsupported", `memory: cannot keep the condition or retention of ${key}`);
}

function assertCondition({ objects }: Shelf, key: string, when: Condition | undefined): void {
  const present = objects.get(key);
  if (when === "absent" && present !== undefined) {
    throw new PgkitError("condition-failed", `${key} is there already`);
  }
  if (typeof when === "object" && present?.info.etag !== when.etag) throw changed(key);
}

function assertNotRetained({ objects, clock }: Shelf, key: string): void {
  const until = objects.get(key)?.info.retainedUntil;
  if (until !== undefined && until > clock.now()) {
    throw new PgkitError("store-denied", `${key} is under retention until ${until.toISOString()}`);
  }
}

function changed(key: string): PgkitError {
  return new PgkitError("condition-failed", `${key} was changed by another`);
}

function* slices(content: Buffer): Generator<Buffer> {
  for (let at = 0; at < content.length; at += 65_536) yield content.subarray(at, at + 65_536);
}

function sum(chunks: readonly Buffer[]): number {
  return chunks.reduce((value, chunk) => crc32(chunk, value), 0);
}
