import { createHash, type Hash } from "node:crypto";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { type Bytes, collect, lent, readable, type Tally, tallied } from "../lib/streams.ts";
import type { ObjectBody, ObjectReader, ObjectStore, SignalOption } from "../store/store.ts";
import { decode, type Encoding, encode } from "./encoding.ts";
import { volumeKey } from "./layout.ts";
import type { Manifest, StoredFile, Volume } from "./manifest.ts";
import { assertSame, damaged, readBack, startsEncrypted } from "./proof.ts";
import type { Repository, RepositoryReader } from "./repository.ts";

export type FileProof = Manifest["proof"];

export interface NewFile extends Pick<StoredFile, "name" | "role"> {
  /** True where the bytes are compressed already, so that a second time would only cost. */
  compressed?: boolean;
  retainUntil?: Date | undefined;
}

/**
 * Encodes and stores `source` under `folder`, volume by volume, and proves every volume: by the checksum that the store
 * computed, else by reading it back, which a folder does itself. With recipients set, it fails rather than store anything
 * that is not age's. The file counts for nothing until a manifest names it; what a failure leaves behind is garbage that
 * prune collects.
 */
export async function writeFile(
  repository: Repository,
  folder: string,
  file: NewFile,
  source: Bytes,
  { signal, onBytes }: SignalOption & { onBytes?: (bytes: number) => void } = {},
): Promise<{ file: StoredFile; proof: FileProof }> {
  const encoding = encodingOf(repository, file);
  const name = `${file.name}${encoding.map((step) => (step === "zstd" ? ".zst" : ".age")).join("")}`;
  // What is stored as it is is summed up once.
  const plain = encoding.length === 0 ? undefined : tallied(source);
  const encoded = encode(plain?.stream ?? source, { ...repository, encoding });
  const volumes: Volume[] = [];
  let stored: Hash | undefined;
  let proof: FileProof = "store-checksum";
  for await (const part of volumesOf(encoded, repository.volumeBytes)) {
    const key = volumeKey(folder, name, volumes.length + 1);
    const encrypted = encoding.includes("age") && volumes.length === 0;
    const options = { encrypted, signal, onBytes, also: stored, ...retention(file) };
    const written = await writeVolume(repository.store, key, part, options);
    volumes.push(written.volume);
    stored ??= written.hash;
    if (written.proven !== "store-checksum") proof = "read-back";
  }
  const { bytes: plainBytes, sha256: plainSha256 } = plain?.tally() ?? sumOf(volumes, stored);
  return { file: { name: file.name, role: file.role, encoding, plainBytes, plainSha256, volumes }, proof };
}

function sumOf(volumes: readonly Volume[], hash: Hash | undefined): Tally {
  if (hash === undefined) throw new Error("a file has at least one volume");
  return { bytes: volumes.reduce((sum, { storedBytes }) => sum + storedBytes, 0), sha256: hash.digest("hex") };
}

/**
 * The file's own bytes, decoded. The stream fails with `object-corrupt` when a stored byte was changed or is missing,
 * and never just ends early: what was read counts only once it has ended.
 */
export async function* readFile(
  repository: RepositoryReader,
  file: StoredFile,
  options: SignalOption = {},
): AsyncGenerator<Uint8Array> {
  const where = `${file.volumes[0]?.key ?? file.name} in ${repository.where}`;
  const stored = readVolumes(repository, file, { ...options, lent: file.encoding.at(-1) === "zstd" });
  if (isStoredAsItIs(file)) return yield* stored;
  const plain = tallied(decode(stored, file.encoding, repository.identities, where));
  try {
    yield* plain.stream;
  } catch (error) {
    // A changed header looks like one for other recipients, so that what is stored has to be looked at first.
    if (isPgkitError(error, "identity-wrong")) await checkStored(repository, file, options);
    throw error;
  }
  const { bytes, sha256 } = plain.tally();
  if (bytes === file.plainBytes && sha256 === file.plainSha256) return;
  throw damaged(where, `it decodes to ${bytes} bytes of sha256 ${sha256}`, `${file.plainBytes} of ${file.plainSha256}`);
}

/** Its one volume is the file itself, of the same checksum, which is checked as it is read. */
function isStoredAsItIs({ encoding, volumes, plainBytes, plainSha256 }: StoredFile): boolean {
  const [only] = volumes;
  const isOne = encoding.length === 0 && volumes.length === 1;
  return isOne && only?.storedBytes === plainBytes && only.sha256 === plainSha256;
}

/**
 * The stored bytes of a file, volume after volume, each checked against the manifest. With `lent` the memory of a piece may
 * be gone when the next is asked for.
 */
export async function* readVolumes(
  { store, where }: RepositoryReader,
  file: StoredFile,
  { signal, lent: lends = false }: SignalOption & { lent?: boolean } = {},
): AsyncGenerator<Uint8Array> {
  for (const { key, storedBytes, sha256 } of file.volumes) {
    const body = await getVolume(store, key, { signal });
    const volume = tallied(lends && body.owned ? lent(body) : body);
    yield* volume.stream;
    assertSame(volume.tally(), { bytes: storedBytes, sha256 }, `${key} in ${where}`);
  }
}

/** Reads all stored bytes of a file. Fails with `object-corrupt` or `object-missing` where they are not those written. */
export async function checkStored(
  repository: RepositoryReader,
  file: StoredFile,
  options: SignalOption = {},
): Promise<void> {
  for await (const _ of readVolumes(repository, file, { ...options, lent: true }));
}

async function getVolume(store: ObjectReader, key: string, options: SignalOption): Promise<ObjectBody> {
  try {
    return await store.get(key, options);
  } catch (cause) {
    if (!isPgkitError(cause, "object-missing")) throw cause;
    throw new PgkitError("object-missing", `${key} is missing in ${store.where}, and its backup needs it`, {
      hint: "restore from another backup; pgkit verify tells which are whole",
      cause,
    });
  }
}

export function storedBytesOf(files: readonly StoredFile[]): number {
  return files.flatMap((file) => file.volumes).reduce((sum, volume) => sum + volume.storedBytes, 0);
}

function encodingOf({ recipients }: Repository, { compressed = false }: NewFile): Encoding[] {
  return [...(compressed ? [] : ["zstd" as const]), ...(recipients.length > 0 ? ["age" as const] : [])];
}

function retention({ retainUntil }: NewFile): { retainUntil?: Date } {
  return retainUntil === undefined ? {} : { retainUntil };
}

interface VolumeOptions extends SignalOption {
  encrypted: boolean;
  onBytes?: ((bytes: number) => void) | undefined;
  /** Sums up all volumes of the file. */
  also: Hash | undefined;
  retainUntil?: Date;
}

async function writeVolume(
  store: ObjectStore,
  key: string,
  part: Bytes,
  { encrypted, onBytes, also, ...options }: VolumeOptions,
): Promise<{ volume: Volume; proven: FileProof; hash: Hash }> {
  const sent = tallied(encrypted ? startsEncrypted(part, key) : part, also);
  const body = readable(onBytes === undefined ? sent.stream : watched(sent.stream, onBytes));
  const stored = await store.put(key, body, options);
  const tally = sent.tally();
  if (stored.proven === false) await readBack(store, key, tally, { encrypted, signal: options.signal });
  const volume = { key, storedBytes: tally.bytes, sha256: tally.sha256 };
  return { volume, proven: stored.proven || "read-back", hash: sent.hash };
}

async function* watched(source: Bytes, onBytes: (bytes: number) => void): AsyncGenerator<Uint8Array> {
  for await (const piece of source) {
    onBytes(piece.length);
    yield piece;
  }
}

/** `source` cut into streams of at most `volumeBytes`; one empty stream for an empty source. Take them in turn. */
async function* volumesOf(source: Bytes, volumeBytes: number): AsyncGenerator<Bytes> {
  const iterator = source[Symbol.asyncIterator]();
  let next = await iterator.next();
  let rest: Uint8Array | undefined = next.done === true ? undefined : next.value;
  async function* volume(): AsyncGenerator<Uint8Array> {
    for (let room = volumeBytes; rest !== undefined && room > 0; ) {
      const piece: Uint8Array = rest.subarray(0, room);
      room -= piece.length;
      yield piece;
      if (piece.length < rest.length) {
        rest = rest.subarray(piece.length);
      } else {
        next = await iterator.next();
        rest = next.done === true ? undefined : next.value;
      }
    }
  }
  try {
    do yield volume();
    while (rest !== undefined);
  } finally {
    await iterator.return?.();
  }
}

/** The sha256 of small bytes, in hex. */
export function sha256Of(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** A small file's bytes. */
export async function readSmallFile(
  repository: RepositoryReader,
  file: StoredFile,
  options: SignalOption = {},
): Promise<Buffer> {
  return collect(readFile(repository, file, options));
}
