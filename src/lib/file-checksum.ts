import { createHash } from "node:crypto";
import type { ChecksumAlgorithm } from "./backup-manifest.ts";
import { crc32c, crc32cHex } from "./crc32c.ts";

export interface FileChecksum {
  update(bytes: Uint8Array): void;
  /** Hex, as a backup_manifest has it; empty for `NONE`. */
  digest(): string;
}

/** Sums up a file as the server did for its backup_manifest. */
export function fileChecksum(algorithm: ChecksumAlgorithm): FileChecksum {
  if (algorithm === "NONE") return { update: () => undefined, digest: () => "" };
  if (algorithm !== "CRC32C") {
    const hash = createHash(algorithm.toLowerCase());
    return { update: (bytes) => void hash.update(bytes), digest: () => hash.digest("hex") };
  }
  let crc = 0;
  return {
    update: (bytes) => {
      crc = crc32c(bytes, crc);
    },
    digest: () => crc32cHex(crc),
  };
}
