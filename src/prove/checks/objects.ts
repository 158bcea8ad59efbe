import { createHash, randomUUID } from "node:crypto";
import { Readable } from "node:stream";
import { isPgkitError, PgkitError } from "../../lib/errors.ts";
import { formatBytes } from "../../lib/parse.ts";
import type { ObjectStore } from "../../store/store.ts";
import type { Found, Ledger } from "../ledger.ts";
import type { RepositoryUnderCheck } from "./repository.ts";

const defaultPartBytes = 5 * 1024 * 1024;
/** More than this is not sent to try an upload in parts. */
const mostBytes = 16 * 1024 * 1024;
const pieceBytes = 256 * 1024;
const dayMs = 24 * 60 * 60 * 1000;
/** Time to tidy up, also after the deadline of the check. */
const cleanUpMs = 10_000;

/** Stores, reads back, lists and removes objects under `probe/`. False when nothing can be stored there. */
export async function checkObjects(
  ledger: Ledger,
  { storage }: RepositoryUnderCheck,
  store: ObjectStore,
): Promise<boolean> {
  const folder = `${probeFolder}${randomUUID()}/`;
  const sizes = sizesToTry(storage);
  const written = await ledger.run(
    "objects",
    async (found) => {
      const { signal } = found;
      const keys: string[] = [];
      try {
        for (const bytes of sizes) {
          const key = `${folder}${bytes}`;
          keys.push(key);
          await storeAndReadBack(store, key, bytes, signal);
        }
        await assertListed(store, folder, keys, signal);
        found.ok(`objects of ${sizes.map(formatBytes).join(", ")} were stored, read back and listed`);
        return keys;
      } catch (error) {
        await store.delete(keys, { signal: AbortSignal.timeout(cleanUpMs) }).catch(() => undefined);
        throw error;
      }
    },
    { late: "store-unreachable" },
  );
  if (written === undefined) return false;
  await ledger.run("removal", (found) => remove(found, store, folder, written), { late: "store-unreachable" });
  return true;
}

const probeFolder = "probe/check-";

/** Nothing, next to nothing, and more than one part, unless that would take too long. */
function sizesToTry({
  partBytes = defaultPartBytes,
  bytesPerSecond = Number.POSITIVE_INFINITY,
}: RepositoryUnderCheck["storage"]): number[] {
  const inParts = partBytes + 1;
  return inParts <= mostBytes && inParts <= bytesPerSecond * 5 ? [0, 1, inParts] : [0, 1];
}

async function storeAndReadBack(store: ObjectStore, key: string, bytes: number, signal: AbortSignal): Promise<void> {
  const sent = createHash("sha256");
  await store.put(key, Readable.from(pieces(bytes, sent), { objectMode: false }), { signal });
  const read = createHash("sha256");
  for await (const chunk of await store.get(key, { signal })) read.update(chunk);
  if (sent.digest("hex") === read.digest("hex")) return;
  throw new PgkitError("object-corrupt", `${key} of ${bytes} bytes came back with other bytes than were stored`, {
    hint: "is there a proxy or a gateway in between that changes what goes through it?",
  });
}

/** Bytes of which no two pieces are the same, so that swapped parts show. */
async function* pieces(bytes: number, sum: { update(piece: Buffer): unknown }): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes; at += pieceBytes) {
    const piece = Buffer.alloc(Math.min(pieceBytes, bytes - at), `${at} of a probe of pgkit check. `);
    sum.update(piece);
    yield piece;
  }
}

async function assertListed(store: ObjectStore, folder: string, keys: string[], signal: AbortSignal): Promise<void> {
  const listed: string[] = [];
  for await (const { key } of store.list(folder, { signal })) listed.push(key);
  const missing = keys.filter((key) => !listed.includes(key));
  if (missing.length === 0) return;
  throw new PgkitError("store-failed", `${store.where} does not list ${missing.join(", ")}, just stored`, {
    hint: "does the store list new objects only after a while? backups would not be found",
  });
}

/** Also what earlier checks, that were killed, left there. Some give a backup's credentials no right to remove. */
async function remove(found: Found, store: ObjectStore, folder: string, keys: readonly string[]): Promise<void> {
  const { signal } = found;
  const old = await oldProbes(store, new Date(found.now().getTime() - dayMs), signal);
  try {
    await store.delete([...keys, ...old], { signal });
  } catch (error) {
    if (!isPgkitError(error, "store-denied")) throw error;
    return found.warning(
      `nothing can be removed (${error.message}): pgkit prune cannot work with these credentials, and ${folder} stays`,
      "allow removal (S3: s3:DeleteObject), or prune with other credentials; remove that folder by hand",
    );
  }
  for (const key of keys) {
    if ((await store.head(key, { signal })) === undefined) continue;
    throw new PgkitError("store-failed", `${store.where} still has ${key} after it was removed`);
  }
  found.ok("they were removed again");
}

async function oldProbes(store: ObjectStore, before: Date, signal: AbortSignal): Promise<string[]> {
  const old: string[] = [];
  for await (const { key, modifiedAt } of store.list(probeFolder, { signal })) if (modifiedAt < before) old.push(key);
  return old;
}

/** How many of three writers, two of them at the same moment, were told that they created the same object. */
export async function winnersOf(store: ObjectStore, signal: AbortSignal): Promise<number> {
  const key = `${probeFolder}${randomUUID()}/create`;
  const create = async (content: string): Promise<number> => {
    try {
      await store.put(key, Buffer.from(content), { when: "absent", signal });
      return 1;
    } catch (error) {
      if (isPgkitError(error, "condition-failed")) return 0;
      throw error;
    }
  };
  try {
    const [first, second] = await Promise.all([create("first"), create("second")]);
    return first + second + (await create("third"));
  } finally {
    // What cannot be removed was told of already.
    await store.delete([key], { signal: AbortSignal.timeout(cleanUpMs) }).catch(() => undefined);
  }
}
