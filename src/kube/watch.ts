import type { Caller, Patience } from "./call.ts";
import { type Ask, apiError, refusalOf } from "./errors.ts";
import { linesOf } from "./http.ts";
import type { Change, KubeObject, Listed, Watched } from "./kube.ts";

/** The API ends a watch after so long by itself; one that is silent for longer is dead. */
const watchSeconds = 240;
const silentMs = (watchSeconds + 30) * 1000;

/** See `Kube.watch`. `list` gives what is there and the version from which to watch. */
export async function* watchObjects<T extends KubeObject>(
  caller: Caller,
  ask: () => Promise<Ask>,
  { name, labels, known = [] }: Watched,
  signal: AbortSignal,
  list: () => Promise<Listed<T>>,
): AsyncGenerator<Change<T>> {
  const call = await ask();
  // They are of the kind that is watched.
  const seen = new Map(known.map((object) => [keyOf(object), object as T]));
  const patience = caller.patience(signal);
  const query = {
    watch: "true",
    allowWatchBookmarks: "true",
    timeoutSeconds: String(watchSeconds),
    labelSelector: labels,
    fieldSelector: name === undefined ? undefined : `metadata.name=${name}`,
  };
  for (;;) {
    const listed = await list();
    yield* differences(seen, listed.objects);
    const from = { resourceVersion: listed.resourceVersion };
    yield* follow<T>(caller, { ...call, query }, from, seen, patience, signal);
  }
}

/** What a new list says against what was seen before. */
function* differences<T extends KubeObject>(seen: Map<string, T>, objects: readonly T[]): Generator<Change<T>> {
  const before = new Map(seen);
  seen.clear();
  for (const object of objects) {
    const key = keyOf(object);
    seen.set(key, object);
    if (before.get(key)?.metadata.resourceVersion !== object.metadata.resourceVersion)
      yield { type: "present", object };
    before.delete(key);
  }
  for (const object of before.values()) yield { type: "gone", object };
}

/** Changes from a version on; ends where the API has forgotten it. */
async function* follow<T extends KubeObject>(
  caller: Caller,
  ask: Ask,
  from: { resourceVersion: string },
  seen: Map<string, T>,
  patience: Patience,
  signal: AbortSignal,
): AsyncGenerator<Change<T>> {
  for (;;) {
    try {
      const query = { ...ask.query, resourceVersion: from.resourceVersion };
      const answer = await caller.open({ ...ask, query }, silentMs, signal);
      for await (const line of linesOf(caller.access(), ask, answer, signal)) {
        const event = eventOf<T>(ask, line);
        if (event === undefined) continue;
        patience.progressed();
        from.resourceVersion = event.object.metadata.resourceVersion ?? from.resourceVersion;
        if (event.type === "BOOKMARK") continue;
        if (event.type === "DELETED") seen.delete(keyOf(event.object));
        else seen.set(keyOf(event.object), event.object);
        yield { type: event.type === "DELETED" ? "gone" : "present", object: event.object };
      }
      signal.throwIfAborted();
    } catch (error) {
      if (refusalOf(error)?.code === 410) return;
      await patience.after(error);
    }
  }
}

interface WatchEvent<T> {
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK" | "ERROR";
  readonly object: T;
}

/** `undefined` for the half line at the end of a stream that was cut: its change comes again. Fails as the API would, where it says ERROR. */
function eventOf<T>(ask: Ask, line: string): WatchEvent<T> | undefined {
  if (line === "") return undefined;
  let event: WatchEvent<T>;
  try {
    event = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (event.type !== "ERROR") return event;
  const { code } = event.object as unknown as { code: number };
  throw apiError(ask, code, JSON.stringify({ ...event.object, kind: "Status" }));
}

function keyOf({ metadata }: KubeObject): string {
  return `${metadata.namespace ?? ""}/${metadata.name}`;
}
