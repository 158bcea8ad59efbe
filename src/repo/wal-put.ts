import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { collect, release, type Tally } from "../lib/streams.ts";
import type { Condition, SignalOption } from "../store/store.ts";
import { sha256Of } from "./files.ts";
import { readBack } from "./proof.ts";
import type { Repository } from "./repository.ts";
import { encodeWal, encodingOfKey, plainSum } from "./wal-object.ts";

/** Where a WAL file goes, and where it would be if it had been stored before encryption was switched on or off. */
export interface WalKeys {
  key: string;
  former: string;
}

/** Stores a WAL file that is never overwritten. See `putWal`. */
export async function putOnce(
  repository: Repository,
  { key, former }: WalKeys,
  content: Uint8Array,
  { retainUntil, signal }: SignalOption & { retainUntil?: Date | undefined },
): Promise<"stored" | "same"> {
  const { store } = repository;
  const { createIfAbsent } = await store.capabilities({ signal });
  const look = createIfAbsent ? [former] : [former, key];
  const [there] = (await Promise.all(look.map((at) => store.head(at, { signal })))).filter(
    (info) => info !== undefined,
  );
  if (there !== undefined) return await assertSameContent(repository, there.key, content, { signal });
  const { stored } = await encodeWal(repository, content);
  const lock = retainUntil === undefined ? {} : { retainUntil };
  try {
    const { proven } = await store.put(key, stored, { ...(createIfAbsent ? { when: "absent" } : {}), ...lock, signal });
    if (!proven) await proveOrRemove(repository, key, stored, { signal });
    release(stored);
    return "stored";
  } catch (error) {
    if (!isPgkitError(error, "condition-failed")) throw error;
    return await assertSameContent(repository, key, content, { signal });
  }
}

/** A version of a partial segment, as the one writer of it left it. */
export interface StoredPartial {
  etag: string;
  /** Without the zeros at its end. */
  plainBytes: number;
}

/** How often another writer may come between before we give up: there should be none. */
const races = 5;

/**
 * Stores what grows, in place of a shorter one; `previous` spares reading what is there. A longer one stays. Gives what is
 * there afterwards.
 */
export async function putLonger(
  repository: Repository,
  { key, former }: WalKeys,
  content: Uint8Array,
  { previous, signal }: SignalOption & { previous?: StoredPartial | undefined },
): Promise<StoredPartial & { outcome: "stored" | "same" }> {
  const { store } = repository;
  const { createIfAbsent, compareAndSet } = await store.capabilities({ signal });
  const { stored } = await encodeWal(repository, content);
  let there = previous ?? (await storedPartial(repository, key, { signal }));
  for (let tries = 1; ; tries++) {
    if (there !== undefined && there.plainBytes > content.length) return { ...there, outcome: "same" };
    const when: Condition | undefined = there === undefined ? "absent" : { etag: there.etag };
    const kept = there === undefined ? createIfAbsent : compareAndSet;
    try {
      const { etag, proven } = await store.put(key, stored, { ...(kept ? { when } : {}), signal });
      if (!proven) await readBack(store, key, tallyOf(stored), { encrypted: key.endsWith(".age"), signal });
      // Of the time before encryption was switched: it is shorter, and no reader shall find it.
      if (there === undefined) await store.delete([former], { signal });
      return { etag, plainBytes: content.length, outcome: "stored" };
    } catch (error) {
      if (!isPgkitError(error, "condition-failed") || tries === races) throw error;
      there = await storedPartial(repository, key, { signal });
    }
  }
}

/** `content` without the zeros at its end, which a segment that is being written ends in. */
export function withoutZeroTail(content: Uint8Array): Uint8Array {
  let end = content.length;
  while (end > 0 && content[end - 1] === 0) end--;
  return content.subarray(0, end);
}

async function storedPartial(
  repository: Repository,
  key: string,
  options: SignalOption,
): Promise<StoredPartial | undefined> {
  if ((await repository.store.head(key, options)) === undefined) return undefined;
  const body = await repository.store.get(key, options);
  const { bytes } = await plainSum(repository, key, await collect(body), encodingOfKey(key));
  return { etag: body.etag, plainBytes: bytes };
}

/** What we wrote ourselves and find damaged goes, so that the next try can store it. */
async function proveOrRemove({ store }: Repository, key: string, stored: Buffer, options: SignalOption): Promise<void> {
  try {
    await readBack(store, key, tallyOf(stored), { encrypted: key.endsWith(".age"), ...options });
  } catch (error) {
    if (isPgkitError(error, "object-corrupt")) await store.delete([key], options);
    throw error;
  }
}

async function assertSameContent(
  repository: Repository,
  key: string,
  content: Uint8Array,
  options: SignalOption,
): Promise<"same"> {
  const stored = await collect(await repository.store.get(key, options));
  const there = await plainSum(repository, key, stored, encodingOfKey(key));
  release(stored);
  const ours = tallyOf(content);
  if (there.sha256 === ours.sha256) return "same";
  const found = `${there.bytes} bytes of sha256 ${there.sha256}`;
  const message = `${key} in ${repository.where} holds ${found}, and this server's file of that name ${ours.bytes} of ${ours.sha256}`;
  throw new PgkitError("wal-conflict", message, {
    hint: "does a second server, a copy of this one, archive under the same instance? give it an instance of its own; nothing was overwritten",
  });
}

function tallyOf(bytes: Uint8Array): Tally {
  return { bytes: bytes.length, sha256: sha256Of(bytes) };
}
