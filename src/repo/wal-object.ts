import { release, type Tally } from "../lib/streams.ts";
import { encryptAgeNoted, readAgeNote } from "./age.ts";
import { compressFrame, decodeWhole, type Encoding } from "./encoding.ts";
import { sha256Of } from "./files.ts";
import { assertSame, damaged } from "./proof.ts";
import type { RepositoryReader, RepositorySettings } from "./repository.ts";

/**
 * How one WAL file is stored: a single zstd frame, encrypted by age where there are recipients. The host that pushes has
 * no private key, and must still tell whether what is stored is what it has: so the header of an encrypted one carries
 * the sha256 and the length of the file, and the sha256 of the payload that follows.
 */
const noteType = "pgkit.dev/sha256";

/** The keys of a WAL file end so; the first is how this repository stores it, the other is how it did before. */
export function walSuffixes({ recipients }: RepositorySettings): readonly [string, string] {
  return recipients.length > 0 ? [".zst.age", ".zst"] : [".zst", ".zst.age"];
}

export function encodingOfKey(key: string): Encoding[] {
  return key.endsWith(".age") ? ["zstd", "age"] : ["zstd"];
}

export async function encodeWal(
  { compression, recipients }: RepositorySettings,
  content: Uint8Array,
): Promise<{ stored: Buffer }> {
  const packed = await compressFrame(content, compression);
  // Summing up a segment costs nearly as much as compressing it, so that it is not done for nothing.
  if (recipients.length === 0) return { stored: packed };
  const sum = sumOf(content);
  const note = (payload: Uint8Array) => [noteType, sum.sha256, String(sum.bytes), sha256Of(payload)];
  return { stored: await encryptAgeNoted(packed, recipients, note) };
}

/** The WAL file in the stored bytes. Fails with `object-corrupt`, or about the identity. */
export async function decodeWal(
  { identities }: Pick<RepositorySettings, "identities">,
  stored: Buffer,
  encoding: readonly Encoding[],
  where: string,
): Promise<Buffer> {
  const content = await decodeWhole(stored, encoding, identities, where);
  const noted = noteOf(stored);
  if (noted !== undefined) assertSame(sumOf(content), noted, where);
  return content;
}

/**
 * What the stored bytes decode to, all of them checked: by the note where there is one, which needs no identity, else by
 * decoding them. Fails with `object-corrupt`.
 */
export async function plainSum(
  repository: RepositoryReader,
  key: string,
  stored: Buffer,
  encoding: readonly Encoding[],
): Promise<Tally> {
  const where = `${key} in ${repository.where}`;
  const noted = noteOf(stored);
  if (noted === undefined) {
    const content = await decodeWal(repository, stored, encoding, where);
    const sum = sumOf(content);
    release(content);
    return sum;
  }
  const payload = stored.subarray(noted.payloadAt);
  const found = sha256Of(payload);
  if (found === noted.payloadSha256) return noted;
  throw damaged(where, `${payload.length} encrypted bytes of sha256 ${found}`, noted.payloadSha256);
}

function noteOf(stored: Buffer): (Tally & { payloadSha256: string; payloadAt: number }) | undefined {
  const note = readAgeNote(stored, noteType);
  const [sha256, bytes, payloadSha256] = note?.args ?? [];
  if (note === undefined || sha256 === undefined || bytes === undefined || payloadSha256 === undefined)
    return undefined;
  return { sha256, bytes: Number(bytes), payloadSha256, payloadAt: note.payloadAt };
}

function sumOf(content: Uint8Array): Tally {
  return { sha256: sha256Of(content), bytes: content.length };
}
