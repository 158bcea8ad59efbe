import type { Readable } from "node:stream";
import { isPgkitError } from "../lib/errors.ts";
import { type Clock, systemClock } from "../lib/time.ts";
import { chunksOf, discard, readAll, streamOf } from "./body.ts";
import { pause } from "./cancel.ts";
import type {
  GetOptions,
  ListOptions,
  ObjectBody,
  ObjectInfo,
  ObjectStore,
  PutOptions,
  StoredObject,
} from "./store.ts";

export interface RetryOptions {
  /** How often one call is made at most, 5 where left out; progress in a body or a list starts the count again. */
  attempts?: number;
  /** The wait before the second call is random up to this, and doubles from then on; 200 where left out. */
  baseMs?: number;
  /** No wait is longer; 20,000 where left out. */
  maxMs?: number;
  /**
   * `bodies`: only a body cut on its way is gone on with; for stores whose client repeats failed requests itself, as two
   * layers would multiply. `all`, where left out: every call.
   */
  what?: "all" | "bodies";
  clock?: Clock;
}

/** Bytes of a body after which its failures are counted anew; less would let a store that drips go on for days. */
const progressBytes = 64 * 1024;

/**
 * `store`, calling again where a call failed for reasons that pass (`store-unreachable`, `store-failed`) and repeating it
 * is safe. A body that is a stream is sent once, unless nothing of it was read. A body cut while it is read goes on from
 * the byte reached, of the same version or not at all.
 */
export function retryStore(store: ObjectStore, options: RetryOptions = {}): ObjectStore {
  const patient: Patient = (signal) => patience(options, signal);
  const get = async (key: string, wanted: GetOptions = {}) => {
    const open = async (rest: GetOptions) => {
      if (options.what === "bodies") return await store.get(key, rest);
      return await repeat(patient(wanted.signal), () => store.get(key, rest));
    };
    return resumed(await open(wanted), wanted, patient(wanted.signal), open);
  };
  if (options.what === "bodies") return { ...store, get };
  return {
    where: store.where,
    uploads: store.uploads,
    get,
    head: (key, wanted = {}) => repeat(patient(wanted.signal), () => store.head(key, wanted)),
    list: (prefix, wanted = {}) => listed(store, prefix, wanted, patient(wanted.signal)),
    async put(key, body, wanted = {}) {
      if (body instanceof Uint8Array) return await putBytes(store, key, body, wanted, patient(wanted.signal));
      return await putStream(store, key, body, wanted, patient(wanted.signal));
    },
    delete: (keys, wanted = {}) => repeat(patient(wanted.signal), () => store.delete(keys, wanted)),
    capabilities: (wanted = {}) => repeat(patient(wanted.signal), () => store.capabilities(wanted)),
  };
}

interface Patience {
  /** Waits before the next call; throws `error` when there is to be none. */
  after(error: unknown): Promise<void>;
  /** Nothing can be called again: the next `after` throws. */
  giveUp(): void;
  /** What failed so far no longer counts, as something came of it. */
  progressed(): void;
}

type Patient = (signal: AbortSignal | undefined) => Patience;

/** Backoff with full jitter: waits drawn evenly from nothing up to a doubling bound keep many clients out of step. */
function patience(
  { attempts = 5, baseMs = 200, maxMs = 20_000, clock = systemClock }: RetryOptions,
  signal: AbortSignal | undefined,
): Patience {
  let failures = 0;
  return {
    async after(error) {
      failures += 1;
      if (failures >= attempts || !isPgkitError(error, "store-unreachable", "store-failed")) throw error;
      await pause(clock, clock.random() * Math.min(maxMs, baseMs * 2 ** (failures - 1)), signal);
    },
    giveUp() {
      failures = attempts;
    },
    progressed() {
      failures = 0;
    },
  };
}

async function repeat<T>(patience: Patience, work: (nth: number) => Promise<T>): Promise<T> {
  for (let nth = 1; ; nth += 1) {
    try {
      return await work(nth);
    } catch (error) {
      await patience.after(error);
    }
  }
}

function resumed(
  first: ObjectBody,
  { range, signal }: GetOptions,
  patience: Patience,
  open: (rest: GetOptions) => Promise<ObjectBody>,
): ObjectBody {
  const last = range?.last ?? Number.MAX_SAFE_INTEGER;
  let current = first;
  let gone = false;
  const chunks = async function* () {
    let at = range?.first ?? 0;
    for (let mark = at; ; ) {
      try {
        for await (const chunk of chunksOf(current, undefined)) {
          at += chunk.length;
          if (at - mark >= progressBytes) {
            mark = at;
            patience.progressed();
          }
          yield chunk;
        }
        return;
      } catch (error) {
        if (gone) return;
        await patience.after(error);
      }
      current = await open({ range: { first: at, last }, etag: first.etag, signal });
      if (gone) discard(current);
    }
  };
  const close = () => {
    gone = true;
    discard(current);
  };
  return Object.assign(streamOf(chunks(), close), { etag: first.etag });
}

async function* listed(
  store: ObjectStore,
  prefix: string,
  { after, signal }: ListOptions,
  patience: Patience,
): AsyncGenerator<ObjectInfo> {
  for (let reached = after; ; ) {
    try {
      for await (const found of store.list(prefix, { after: reached, signal })) {
        reached = found.key;
        patience.progressed();
        yield found;
      }
      return;
    } catch (error) {
      await patience.after(error);
    }
  }
}

/**
 * A conditional write whose reply was lost meets itself when it is sent again. So where the condition fails then, what is
 * there is compared with what was sent: the same bytes mean that it was done.
 */
async function putBytes(
  store: ObjectStore,
  key: string,
  body: Uint8Array,
  options: PutOptions,
  patience: Patience,
): Promise<StoredObject> {
  return await repeat(patience, async (nth) => {
    try {
      return await store.put(key, body, options);
    } catch (error) {
      const mayBeOurs = nth > 1 && options.when !== undefined && isPgkitError(error, "condition-failed");
      const present = mayBeOurs ? await sameAs(store, key, body, options) : undefined;
      if (present === undefined) throw error;
      return { ...present, proven: false };
    }
  });
}

async function sameAs(
  store: ObjectStore,
  key: string,
  body: Uint8Array,
  { signal }: PutOptions,
): Promise<ObjectInfo | undefined> {
  const present = await store.head(key, { signal });
  if (present === undefined || present.bytes !== body.length) return undefined;
  const stored = await readAll(await store.get(key, { etag: present.etag, signal }), signal);
  return stored.equals(body) ? present : undefined;
}

async function putStream(
  store: ObjectStore,
  key: string,
  body: Readable,
  options: PutOptions,
  patience: Patience,
): Promise<StoredObject> {
  let touched = false;
  const chunks = async function* () {
    touched = true;
    yield* chunksOf(body, undefined);
  };
  try {
    return await repeat(patience, async () => {
      const sent = streamOf(chunks(), () => touched && discard(body));
      try {
        return await store.put(key, sent, options);
      } catch (error) {
        if (touched) patience.giveUp();
        throw error;
      }
    });
  } catch (error) {
    discard(body);
    throw error;
  }
}
