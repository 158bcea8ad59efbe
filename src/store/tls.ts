import { readFileSync } from "node:fs";
import { getCACertificates } from "node:tls";
import { PgkitError } from "../lib/errors.ts";

/** The authorities to trust: the system's and those of `caFile`. Fails with `config` when the file cannot be read. */
export function authorities(caFile: string | undefined): { ca?: string[] } {
  if (caFile === undefined) return {};
  try {
    return { ca: [...getCACertificates("default"), readFileSync(caFile, "utf8")] };
  } catch (error) {
    const hint = "storage.caFile names a PEM file with the authority's certificate";
    throw new PgkitError("config", `the CA file ${caFile} cannot be read`, { hint, cause: error });
  }
}
