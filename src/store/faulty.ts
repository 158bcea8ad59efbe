import { Readable } from "node:stream";
import { PgkitError } from "../lib/errors.ts";
import { chunksOf, discard, streamOf } from "./body.ts";
import { cancelled } from "./cancel.ts";
import type { ObjectStore, SignalOption } from "./store.ts";

export type StoreMethod = "get" | "head" | "list" | "put" | "delete" | "capabilities";

/**
 * One thing that goes wrong. `fail`: the call fails and does nothing. `cut`: the body (for `list`, the entries) breaks
 * after so many bytes (entries), and nothing is stored. `lose-reply`: the call does its work and fails all the same.
 * `hang`: nothing happens until the signal is aborted.
 */
export interface Fault {
  /** Counted from 1 among the calls of `method`, or of all methods where it is left out. */
  call: number;
  method?: StoreMethod;
  /** How many calls in a row, from that one on; 1 where left out. */
  times?: number;
  does: "fail" | "lose-reply" | "hang" | { cutAfter: number };
  /** What is thrown; `store-failed` where left out. */
  error?: PgkitError;
}

export interface FaultyStore extends ObjectStore {
  /** How often each method, or with none any, was called so far. */
  calls(method?: StoreMethod): number;
}

/** `store`, going wrong as planned; with an empty plan it only counts, which gives a sweep its bounds. */
export function faultyStore(store: ObjectStore, plan: readonly Fault[]): FaultyStore {
  const counts = new Map<StoreMethod, number>();
  const total = () => [...counts.values()].reduce((sum, count) => sum + count, 0);
  const next = (method: StoreMethod): Fault | undefined => {
    counts.set(method, (counts.get(method) ?? 0) + 1);
    return plan.find((fault) => {
      if (fault.method !== undefined && fault.method !== method) return false;
      const nth = fault.method === undefined ? total() : (counts.get(method) ?? 0);
      return nth >= fault.call && nth < fault.call + (fault.times ?? 1);
    });
  };
  return {
    where: store.where,
    uploads: store.uploads,
    calls: (method) => (method === undefined ? total() : (counts.get(method) ?? 0)),
    async get(key, options = {}) {
      const fault = next("get");
      const body = await apply(fault, `reading ${key}`, options, () => store.get(key, options));
      const cut = cutOf(fault);
      if (cut === undefined) return body;
      const chunks = broken(body, cut, wrong(fault, `reading ${key}`));
      return Object.assign(
        streamOf(chunks, () => discard(body)),
        { etag: body.etag },
      );
    },
    head: (key, options = {}) => apply(next("head"), `looking for ${key}`, options, () => store.head(key, options)),
    async *list(prefix, options = {}) {
      const fault = next("list");
      await apply(fault, `listing ${prefix}`, options, async () => undefined);
      let given = 0;
      for await (const found of store.list(prefix, options)) {
        if (given === cutOf(fault)) throw wrong(fault, `listing ${prefix}`);
        given += 1;
        yield found;
      }
    },
    async put(key, body, options = {}) {
      const fault = next("put");
      const cut = cutOf(fault);
      const chunks = broken(body, cut ?? 0, wrong(fault, `storing ${key}`));
      const sent = cut === undefined ? body : streamOf(chunks, () => discard(body));
      try {
        return await apply(fault, `storing ${key}`, options, () => store.put(key, sent, options));
      } catch (failure) {
        discard(body);
        throw failure;
      }
    },
    delete: (keys, options = {}) => apply(next("delete"), "removing", options, () => store.delete(keys, options)),
    capabilities: (options = {}) => apply(next("capabilities"), "probing", options, () => store.capabilities(options)),
  };
}

async function apply<T>(
  fault: Fault | undefined,
  what: string,
  { signal }: SignalOption,
  work: () => Promise<T>,
): Promise<T> {
  if (fault?.does === "fail") throw wrong(fault, what);
  if (fault?.does === "hang") return await hang(signal);
  const result = await work();
  if (fault?.does !== "lose-reply") return result;
  if (result instanceof Readable) discard(result);
  throw wrong(fault, what);
}

function wrong(fault: Fault | undefined, what: string): PgkitError {
  return fault?.error ?? new PgkitError("store-failed", `${what} failed, as planned`);
}

/** Keeps the process alive as a socket would; without a signal it never ends. */
function hang(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    const alive = setInterval(() => undefined, 60_000);
    const stop = () => {
      clearInterval(alive);
      if (signal !== undefined) reject(cancelled(signal));
    };
    if (signal?.aborted === true) stop();
    else signal?.addEventListener("abort", stop, { once: true });
  });
}

function cutOf(fault: Fault | undefined): number | undefined {
  return typeof fault?.does === "object" ? fault.does.cutAfter : undefined;
}

async function* broken(body: Readable | Uint8Array, bytes: number, error: PgkitError): AsyncGenerator<Buffer> {
  let left = bytes;
  for await (const chunk of chunksOf(body, undefined)) {
    if (chunk.length > left) {
      if (left > 0) yield chunk.subarray(0, left);
      throw error;
    }
    left -= chunk.length;
    yield chunk;
  }
  throw error;
}
