import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import type { Decrypter, Stanza } from "age-encryption";
import { PgkitError } from "../lib/errors.ts";
import { chunksOf, collect } from "../lib/streams.ts";

/**
 * The age file format (age-encryption.org/v1), so that `age -d` opens what pgkit stores. Wrapping the file key for
 * recipients is the library's; the payload is sealed here by Node's own ChaCha20-Poly1305, because the library's, in
 * JavaScript, manages a tenth of it (117 against 1,280 MB/s measured on one core) and would be slower than the dump.
 */
export const ageMagic = "age-encryption.org/v1\n";

const chunkBytes = 64 * 1024;
const tagBytes = 16;
const nonceBytes = 16;
/** A header holds one stanza a recipient, of some 200 bytes; post-quantum ones of 1.6 KB. */
const longestHeader = 1024 * 1024;

/** Encrypts to `recipients` (`age1...`). Fails with `config` when one is not a recipient. */
export async function* encryptAge(
  source: AsyncIterable<Uint8Array>,
  recipients: readonly string[],
): AsyncGenerator<Uint8Array> {
  const { header, fileKey } = await newHeader(recipients);
  yield header;
  yield* sealPayload(source, fileKey);
}

/**
 * Encrypts what fits in memory, with a note in the header that is readable without any identity: a stanza of the given
 * arguments, the first its type. The format has programs ignore stanzas of types that they do not know, so `age -d` opens
 * it like any other; the header's MAC covers it. `note` is given the sealed payload, all that follows the header.
 */
export async function encryptAgeNoted(
  source: Uint8Array,
  recipients: readonly string[],
  note: (payload: Uint8Array) => readonly string[],
): Promise<Buffer> {
  const { Stanza } = await import("age-encryption");
  let payload: Uint8Array = Buffer.alloc(0);
  const { header } = await newHeader(recipients, async (fileKey) => {
    payload = await collect(sealPayload(once(source), fileKey));
    return new Stanza([...note(payload)], new Uint8Array());
  });
  return Buffer.concat([header, payload]);
}

/** The arguments after `type` of the header's note, and where the payload begins; `undefined` where there is no such note. */
export function readAgeNote(file: Buffer, type: string): { args: string[]; payloadAt: number } | undefined {
  const payloadAt = file.toString("latin1", 0, ageMagic.length) === ageMagic ? headerLength(file) : undefined;
  const lines = file.toString("latin1", 0, payloadAt ?? 0).split("\n");
  const line = lines.find((text) => text.startsWith(`-> ${type} `));
  return line === undefined || payloadAt === undefined ? undefined : { args: line.split(" ").slice(2), payloadAt };
}

/**
 * Decrypts with the first identity (`AGE-SECRET-KEY-...`) that fits. Fails with `identity-wrong` when none does and
 * with `object-corrupt` when the bytes were changed or cut, also at the border of two chunks.
 */
export async function* decryptAge(
  source: AsyncIterable<Uint8Array>,
  identities: readonly string[],
  where: string,
): AsyncGenerator<Uint8Array> {
  const { header, rest } = await splitHeader(source, where);
  const fileKey = await unwrapHeader(header, identities, where);
  const { nonce, payload } = await splitNonce(rest, where);
  const key = payloadKey(fileKey, nonce);
  for await (const { chunk, counter, last } of numbered(chunksOf(payload, chunkBytes + tagBytes))) {
    yield openChunk(key, chunk, counter, last, where);
  }
}

function openChunk(key: Uint8Array, chunk: Uint8Array, counter: bigint, last: boolean, where: string): Uint8Array {
  const emptyTail = last && counter > 0n && chunk.length === tagBytes;
  if (chunk.length < tagBytes || emptyTail) throw corrupt(where, "it is cut");
  const decipher = createDecipheriv("chacha20-poly1305", key, chunkNonce(counter, last), { authTagLength: tagBytes });
  decipher.setAuthTag(chunk.subarray(chunk.length - tagBytes));
  const plain = decipher.update(chunk.subarray(0, chunk.length - tagBytes));
  try {
    decipher.final();
  } catch (cause) {
    throw corrupt(where, `its encrypted bytes were changed or cut near ${counter * BigInt(chunkBytes)}`, cause);
  }
  return plain;
}

async function* sealPayload(source: AsyncIterable<Uint8Array>, fileKey: Uint8Array): AsyncGenerator<Uint8Array> {
  const nonce = randomBytes(nonceBytes);
  yield nonce;
  const key = payloadKey(fileKey, nonce);
  for await (const { chunk, counter, last } of numbered(chunksOf(source, chunkBytes))) {
    const cipher = createCipheriv("chacha20-poly1305", key, chunkNonce(counter, last), { authTagLength: tagBytes });
    yield Buffer.concat([cipher.update(chunk), cipher.final(), cipher.getAuthTag()]);
  }
}

/** A header for these recipients, and the file key in it: taken by a recipient of our own that adds at most a note. */
async function newHeader(
  recipients: readonly string[],
  note?: (fileKey: Uint8Array) => Promise<Stanza>,
): Promise<{ header: Uint8Array; fileKey: Uint8Array }> {
  const { Encrypter } = await import("age-encryption");
  const encrypter = new Encrypter();
  let fileKey: Uint8Array | undefined;
  for (const recipient of recipients) addRecipient(encrypter, recipient);
  encrypter.addRecipient({
    wrapFileKey: async (key) => {
      fileKey = Uint8Array.from(key);
      return note === undefined ? [] : [await note(fileKey)];
    },
  });
  const empty = await encrypter.encrypt(new Uint8Array());
  if (fileKey === undefined) throw new PgkitError("bug", "the age library made a header without a file key");
  return { header: empty.subarray(0, headerLength(Buffer.from(empty)) ?? 0), fileKey };
}

function addRecipient(encrypter: { addRecipient(recipient: string): void }, recipient: string): void {
  try {
    encrypter.addRecipient(recipient);
  } catch (cause) {
    throw new PgkitError("config", `"${recipient}" is not an age recipient`, {
      hint: "make a key pair with age-keygen; the recipient is the line that starts with age1",
      cause,
    });
  }
}

async function unwrapHeader(header: Uint8Array, identities: readonly string[], where: string): Promise<Uint8Array> {
  const { Decrypter } = await import("age-encryption");
  const decrypter = new Decrypter();
  for (const identity of identities) addIdentity(decrypter, identity);
  try {
    return await decrypter.decryptHeader(header);
  } catch (cause) {
    const matched = cause instanceof Error && !cause.message.includes("no identity matched");
    if (matched) throw corrupt(where, "its age header was changed", cause);
    throw new PgkitError("identity-wrong", `none of the ${identities.length} age identities opens ${where}`, {
      hint: "is this the identity file of the recipients that pgkit show names?",
    });
  }
}

function addIdentity(decrypter: Decrypter, identity: string): void {
  try {
    decrypter.addIdentity(identity);
  } catch {
    // The library's error could quote the key, so neither it nor the key goes on.
    throw new PgkitError("config", "the identity file holds a line that is not an age identity", {
      hint: "it should hold lines that start with AGE-SECRET-KEY-",
    });
  }
}

function payloadKey(fileKey: Uint8Array, nonce: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", fileKey, nonce, "payload", 32));
}

/** 11 bytes of counter, most significant first, and one that is 1 for the last chunk only. */
function chunkNonce(counter: bigint, last: boolean): Uint8Array {
  const nonce = Buffer.alloc(12);
  nonce.writeBigUInt64BE(counter, 3);
  nonce[11] = last ? 1 : 0;
  return nonce;
}

/** The length of the header in `bytes` with its closing MAC line, `undefined` while that line is not complete. */
function headerLength(bytes: Buffer): number | undefined {
  const macLine = bytes.indexOf("\n--- ");
  const end = macLine < 0 ? -1 : bytes.indexOf("\n", macLine + 1);
  return end < 0 ? undefined : end + 1;
}

async function splitHeader(
  source: AsyncIterable<Uint8Array>,
  where: string,
): Promise<{ header: Uint8Array; rest: AsyncIterable<Uint8Array> }> {
  const { head, rest } = await takeUntil(
    source,
    (bytes) => headerLength(bytes) ?? (bytes.length > longestHeader ? 0 : undefined),
  );
  if (!head.toString("latin1", 0, ageMagic.length).startsWith(ageMagic))
    throw corrupt(where, "it is not encrypted by age");
  return { header: head, rest };
}

async function splitNonce(
  source: AsyncIterable<Uint8Array>,
  where: string,
): Promise<{ nonce: Uint8Array; payload: AsyncIterable<Uint8Array> }> {
  const { head, rest } = await takeUntil(source, (bytes) => (bytes.length >= nonceBytes ? nonceBytes : undefined));
  if (head.length < nonceBytes) throw corrupt(where, "it is cut");
  return { nonce: head, payload: rest };
}

/** Reads until `length` knows where the head ends; the whole source is the head if it never does. */
async function takeUntil(
  source: AsyncIterable<Uint8Array>,
  length: (bytes: Buffer) => number | undefined,
): Promise<{ head: Buffer; rest: AsyncIterable<Uint8Array> }> {
  const iterator = source[Symbol.asyncIterator]();
  let bytes = Buffer.alloc(0);
  for (;;) {
    const end = length(bytes);
    if (end !== undefined) return { head: bytes.subarray(0, end), rest: resume(bytes.subarray(end), iterator) };
    const next = await iterator.next();
    if (next.done === true) return { head: bytes, rest: resume(Buffer.alloc(0), iterator) };
    bytes = Buffer.concat([bytes, next.value]);
  }
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function* resume(first: Uint8Array, iterator: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    if (first.length > 0) yield first;
    for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) yield next.value;
  } finally {
    await iterator.return?.();
  }
}

/** Each chunk with its number, and whether it is the last; an empty source is one empty chunk, as age wants it. */
async function* numbered(
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<{ chunk: Uint8Array; counter: bigint; last: boolean }> {
  let held: Uint8Array | undefined;
  let counter = 0n;
  for await (const chunk of chunks) {
    if (held !== undefined) yield { chunk: held, counter: counter++, last: false };
    held = chunk;
  }
  yield { chunk: held ?? new Uint8Array(), counter, last: true };
}

function corrupt(where: string, what: string, cause?: unknown): PgkitError {
  return new PgkitError("object-corrupt", `${where} is damaged: ${what}`, {
    hint: "restore from another backup; pgkit verify tells which are whole",
    cause,
  });
}
