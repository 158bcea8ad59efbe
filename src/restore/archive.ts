import { isPgkitError } from "../lib/errors.ts";
import { type Bytes, lent } from "../lib/streams.ts";
import { decode, freedPieceBytes } from "../repo/encoding.ts";
import { checkStored, readVolumes } from "../repo/files.ts";
import type { StoredFile } from "../repo/manifest.ts";
import type { RepositoryReader } from "../repo/repository.ts";

/**
 * A tar of a base backup, decoded, also where the server compressed it. The stored bytes are checked while they pass, and
 * age and zstd check what they decode; the plain bytes are not summed up once more, since backup_manifest has a checksum
 * for every file. Each piece is lent: its memory is gone once the next is asked for. Fails with `object-corrupt`,
 * `object-missing` or `identity-wrong`; `onBytes` counts stored bytes.
 */
export async function* readArchive(
  repository: RepositoryReader,
  file: StoredFile,
  { signal, onBytes = () => undefined }: { signal: AbortSignal; onBytes?: (bytes: number) => void },
): AsyncGenerator<Uint8Array> {
  const where = `${file.volumes[0]?.key ?? file.name} in ${repository.where}`;
  const encoding = file.name.endsWith(".zst") ? (["zstd", ...file.encoding] as const) : file.encoding;
  const stored = counted(readVolumes(repository, file, { signal, lent: encoding.at(-1) === "zstd" }), onBytes);
  try {
    const plain = decode(stored, encoding, repository.identities, where, freedPieceBytes);
    // Nobody else holds what a decompressor gives; a store may hold what it gives itself.
    yield* isCompressed(file) ? lent(plain) : plain;
  } catch (error) {
    // A changed header looks like one for other recipients, so that what is stored has to be looked at first.
    if (isPgkitError(error, "identity-wrong")) await checkStored(repository, file, { signal });
    throw error;
  }
}

/** Whether what comes out of `readArchive` is a decompressor's, and nobody else's. */
export function isCompressed({ name, encoding }: StoredFile): boolean {
  return name.endsWith(".zst") || encoding[0] === "zstd";
}

async function* counted(source: Bytes, onBytes: (bytes: number) => void): AsyncGenerator<Uint8Array> {
  for await (const piece of source) {
    onBytes(piece.length);
    yield piece;
  }
}
