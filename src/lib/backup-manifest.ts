import { createHash } from "node:crypto";
import { PgkitError } from "./errors.ts";
import { type Lsn, parseLsn } from "./lsn.ts";

/** How a server can be asked to sum up files; `NONE`: not at all. */
export type ChecksumAlgorithm = "NONE" | "CRC32C" | "SHA224" | "SHA256" | "SHA384" | "SHA512";

export interface ManifestFile {
  /** Below the data directory, `/`-separated; of a file in a tablespace, through its link: `pg_tblspc/16400/...`. */
  path: string;
  size: number;
  algorithm: ChecksumAlgorithm;
  /** Hex, lower case; empty with `NONE`. */
  checksum: string;
}

/** The server's own list of what is in a base backup (PostgreSQL's documentation, "Backup Manifest Format"). */
export interface BackupManifest {
  /** Since version 17 of the server. */
  systemId: string | undefined;
  files: ReadonlyMap<string, ManifestFile>;
  /** What a restore needs to be consistent; several where the backup of a standby crossed timelines. */
  walRanges: readonly { timeline: number; startLsn: Lsn; endLsn: Lsn }[];
}

/** Parses a backup_manifest and checks its own checksum. Fails with `object-corrupt`; `where` names it. */
export function parseBackupManifest(bytes: Uint8Array, where: string): BackupManifest {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const lastLine = text.lastIndexOf(`\n"Manifest-Checksum"`) + 1;
  if (lastLine === 0) throw corrupt(where, "it has no checksum of its own");
  const json = parseJson(text, where);
  const sum = createHash("sha256").update(text.subarray(0, lastLine)).digest("hex");
  if (json["Manifest-Checksum"] !== sum) {
    throw corrupt(where, `its checksum is ${sum}, it says ${String(json["Manifest-Checksum"])}`);
  }
  const systemId = /"System-Identifier": *(\d+)/.exec(text.toString("latin1", 0, 200))?.[1];
  const files = new Map(list(json.Files, where).map((each) => manifestFile(each, where)));
  return { systemId, files, walRanges: list(json["WAL-Ranges"], where).map((each) => walRange(each, where)) };
}

function parseJson(text: Buffer, where: string): Record<string, unknown> {
  try {
    const json: unknown = JSON.parse(text.toString("utf8"));
    if (typeof json === "object" && json !== null) return json as Record<string, unknown>;
  } catch (cause) {
    throw corrupt(where, "it is not JSON", cause);
  }
  throw corrupt(where, "it is not a JSON object");
}

function list(value: unknown, where: string): Record<string, unknown>[] {
  if (Array.isArray(value) && value.every((each) => typeof each === "object" && each !== null)) return value;
  throw corrupt(where, "a list of files or of WAL is missing");
}

function manifestFile(entry: Record<string, unknown>, where: string): [string, ManifestFile] {
  const { Path, Size, Checksum = "" } = entry;
  const [encoded, algorithm = "NONE"] = [entry["Encoded-Path"], entry["Checksum-Algorithm"]];
  // A name that is no UTF-8 stands there in hex; its bytes are kept one to a character.
  const path = typeof encoded === "string" ? Buffer.from(encoded, "hex").toString("latin1") : Path;
  if (typeof path !== "string" || typeof Size !== "number" || typeof Checksum !== "string" || !isAlgorithm(algorithm)) {
    throw corrupt(where, `it describes a file in a way that is not known: ${JSON.stringify(entry).slice(0, 200)}`);
  }
  return [path, { path, size: Size, algorithm, checksum: Checksum }];
}

function isAlgorithm(value: unknown): value is ChecksumAlgorithm {
  return typeof value === "string" && ["NONE", "CRC32C", "SHA224", "SHA256", "SHA384", "SHA512"].includes(value);
}

function walRange(entry: Record<string, unknown>, where: string): BackupManifest["walRanges"][number] {
  const { Timeline: timeline } = entry;
  const [start, end] = [entry["Start-LSN"], entry["End-LSN"]];
  if (typeof timeline === "number" && typeof start === "string" && typeof end === "string") {
    return { timeline, startLsn: parseLsn(start), endLsn: parseLsn(end) };
  }
  throw corrupt(where, "it describes WAL in a way that is not known");
}

function corrupt(where: string, what: string, cause?: unknown): PgkitError {
  return new PgkitError("object-corrupt", `${where} is not a backup_manifest of PostgreSQL: ${what}`, {
    hint: "restore from another backup; pgkit verify tells which are whole",
    cause,
  });
}
