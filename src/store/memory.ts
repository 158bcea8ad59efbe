import { Readable } from "node:stream";
import { crc32 } from "node:zlib";
import { PgkitError } from "../lib/errors.ts";
import { type Clock, systemClock } from "../lib/time.ts";
import { chunksOf, discard, objectBody } from "./body.ts";
import { throwIfCancelled } from "./cancel.ts";
import { assertKey } from "./key.ts";
import type { Condition, ObjectInfo, ObjectStore, PutOptions, StoredObject } from "./store.ts";

export interface MemoryStoreOptions {
  clock?: Clock;
  /** Promises it shall not keep, to see what a caller makes of a poorer store. */
  lacks?: readonly ("createIfAbsent" | "compareAndSet" | "checksum" | "objectLock")[];
}

interface Kept {
  info: ObjectInfo;
  content: Buffer;
}

/** A store in the memory of this process, keeping every promise of the contract; for tests. */
export function memoryStore({ clock = systemClock, lacks = [] }: MemoryStoreOptions = {}): ObjectStore {
  const objects = new Map<string, Kept>();
  let writes = 0;
  const has = (promise: (typeof lacks)[number]) => !lacks.includes(promise);

  return {
    where: "memory:",
    async get(key, { range, etag, signal } = {}) {
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
    },
    async head(key, { signal } = {}) {
      check(key, signal);
      const kept = objects.get(key);
      return kept === undefined ? undefined : { ...kept.info };
    },
    async *list(prefix, { after = "", signal } = {}) {
      throwIfCancelled(signal);
      const keys = [...objects.keys()].filter((key) => key.startsWith(prefix) && key > after).sort();
      for (const key of keys) {
        throwIfCancelled(signal);
        const kept = objects.get(key);
        if (kept !== undefined) yield { ...kept.info };
      }
    },
    async put(key, body, options = {}) {
      check(key, options.signal);
      assertSupported(key, options, has);
      const chunks: Buffer[] = [];
      try {
        assertCondition(key, objects.get(key), options.when);
        for await (const chunk of chunksOf(body, options.signal)) chunks.push(chunk);
        throwIfCancelled(options.signal);
      } catch (error) {
        discard(body);
        throw error;
      }
      // From here to the end nothing waits, so that comparing and storing are one step.
      const present = objects.get(key);
      assertCondition(key, present, options.when);
      assertNotRetained(key, present, clock);
      const content = Buffer.concat(chunks);
      writes += 1;
      const retained = options.retainUntil === undefined ? {} : { retainedUntil: options.retainUntil };
      const info = { key, bytes: content.length, etag: `m${writes}`, modifiedAt: clock.now(), ...retained };
      objects.set(key, { info, content });
      return { ...info, proven: has("checksum") && sum(chunks) === sum([content]) } satisfies StoredObject;
    },
    async delete(keys, { signal } = {}) {
      for (const key of keys) check(key, signal);
      for (const key of keys) assertNotRetained(key, objects.get(key), clock);
      for (const key of keys) objects.delete(key);
    },
    async capabilities({ signal } = {}) {
      throwIfCancelled(signal);
      return {
        createIfAbsent: has("createIfAbsent"),
        compareAndSet: has("compareAndSet"),
        checksum: has("checksum") ? "crc32" : "none",
        objectLock: has("objectLock"),
        clockSkewMs: 0,
      };
    },
  };
}

function check(key: string, signal: AbortSignal | undefined): void {
  assertKey(key);
  throwIfCancelled(signal);
}

function assertSupported(
  key: string,
  { when, retainUntil }: PutOptions,
  has: (promise: "createIfAbsent" | "compareAndSet" | "objectLock") => boolean,
): void {
  const lacking =
    (when === "absent" && !has("createIfAbsent")) ||
    (typeof when === "object" && !has("compareAndSet")) ||
    (retainUntil !== undefined && !has("objectLock"));
  if (lacking) throw new PgkitError("store-unsupported", `memory: cannot keep the condition or retention of ${key}`);
}

function assertCondition(key: string, present: Kept | undefined, when: Condition | undefined): void {
  if (when === "absent" && present !== undefined) {
    throw new PgkitError("condition-failed", `${key} is there already`);
  }
  if (typeof when === "object" && present?.info.etag !== when.etag) throw changed(key);
}

function assertNotRetained(key: string, present: Kept | undefined, clock: Clock): void {
  const until = present?.info.retainedUntil;
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
