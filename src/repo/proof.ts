import { PgkitError } from "../lib/errors.ts";
import { type Bytes, type Tally, tallied } from "../lib/streams.ts";
import type { ObjectReader, SignalOption } from "../store/store.ts";
import { ageMagic } from "./age.ts";

/** Reads all of an object and fails with `object-corrupt` unless it is what was sent. */
export async function readBack(
  store: ObjectReader,
  key: string,
  sent: Tally,
  { encrypted, signal }: SignalOption & { encrypted: boolean },
): Promise<void> {
  const back = await store.get(key, { signal });
  const stored = tallied(encrypted ? startsEncrypted(back, key) : back);
  for await (const _ of stored.stream);
  assertSame(stored.tally(), sent, `${key} in ${store.where}`);
}

/** Passes on only what starts as an age file does: a backup that should be encrypted is never stored in the clear. */
export async function* startsEncrypted(source: Bytes, key: string): AsyncGenerator<Uint8Array> {
  let head: Buffer | undefined = Buffer.alloc(0);
  for await (const piece of source) {
    if (head !== undefined) head = Buffer.concat([head, piece.subarray(0, ageMagic.length)]);
    if (head !== undefined && head.length >= ageMagic.length) {
      if (!head.toString("latin1").startsWith(ageMagic)) {
        throw new PgkitError("bug", `${key} was about to be stored without encryption`);
      }
      head = undefined;
    }
    yield piece;
  }
}

/** Fails with `object-corrupt` where stored bytes are not those written. */
export function assertSame(found: Tally, wanted: Tally, where: string): void {
  if (found.bytes === wanted.bytes && found.sha256 === wanted.sha256) return;
  throw damaged(where, `${found.bytes} bytes of sha256 ${found.sha256}`, `${wanted.bytes} of ${wanted.sha256}`);
}

export function damaged(where: string, found: string, wanted: string): PgkitError {
  return new PgkitError("object-corrupt", `${where} is damaged: found ${found}, expected ${wanted}`, {
    hint: "restore from another backup; pgkit verify tells which are whole",
  });
}
