import { readFileSync } from "node:fs";
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import { PgkitError } from "../lib/errors.ts";

/**
 * The authorities to trust: the system's and those of `caFile`. Read once: given as `ca`, Node would read them all for every
 * connection, and make them part of the name by which it looks for a free one. Fails with `config` when the file cannot be read.
 */
export function authorities(caFile: string | undefined): { secureContext?: SecureContext } {
  if (caFile === undefined) return {};
  try {
    const ca = [...getCACertificates("default"), readFileSync(caFile, "utf8")];
    return { secureContext: createSecureContext({ ca }) };
  } catch (error) {
    const hint = "storage.caFile names a PEM file with the authority's certificate";
    throw new PgkitError("config", `the CA file ${caFile} cannot be read`, { hint, cause: error });
  }
}
