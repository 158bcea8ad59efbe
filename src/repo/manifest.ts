import * as v from "valibot";
import { PgkitError } from "../lib/errors.ts";

/** The newest manifest format that this pgkit writes and reads. A newer one is refused, never guessed at. */
export const manifestFormat = 1;

const Count = v.pipe(v.number(), v.integer(), v.minValue(0));
const Time = v.pipe(v.string(), v.isoTimestamp());
const Sha256 = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));

/** One stored object. A file larger than a volume is the volumes' bytes one after the other. */
const Volume = v.object({ key: v.string(), storedBytes: Count, sha256: Sha256 });

/**
 * A file as PostgreSQL's programs wrote it, and how it is stored: `encoding` lists what was applied, first to last, so
 * decoding runs from its end. `plainBytes` and `plainSha256` are of the file before it.
 */
const StoredFile = v.object({
  name: v.string(),
  /**
   * archive: the whole database; schema and data: a database in parts; roles, database, settings: SQL for psql. Of a base
   * backup, base: a tar of the data directory; tablespace: one of a tablespace, named by its oid; backup-manifest: the
   * server's own. A tar whose name ends in `.zst` was compressed by the server, before any encoding of ours.
   */
  role: v.picklist([
    ...(["archive", "schema", "data", "roles", "database", "settings"] as const),
    ...(["base", "tablespace", "backup-manifest"] as const),
  ]),
  encoding: v.array(v.picklist(["zstd", "age"])),
  plainBytes: Count,
  plainSha256: Sha256,
  volumes: v.array(Volume),
  /** For `data` files: what COPY text they hold; absent where the file is a pg_dump archive. */
  copy: v.optional(
    v.object({ schema: v.string(), table: v.string(), columns: v.array(v.string()), part: Count, parts: Count }),
  ),
});

const Table = v.object({
  schema: v.string(),
  name: v.string(),
  /** pg_class.oid, by which the table's rows are named in pg_dump's archives. */
  oid: v.optional(Count),
  /** The oid of the partitioned table that it is a partition of. */
  partitionOf: v.optional(Count),
  /** CREATE EXTENSION makes it; which tables those are depends on the extension's version. */
  ofExtension: v.optional(v.literal(true)),
  /** Rows in the snapshot of the dump, counted; absent for what holds none of its own (partitioned and foreign tables). */
  rows: v.optional(Count),
  /** Rows as the planner estimated them. */
  rowsEstimate: v.optional(v.number()),
  /** Bytes on the server's disk with indexes and TOAST. */
  bytes: Count,
});

const Logical = v.object({
  /** Where the server's WAL was when the snapshot was taken. */
  lsn: v.string(),
  owner: v.string(),
  encoding: v.string(),
  locale: v.object({
    provider: v.picklist(["libc", "icu", "builtin"]),
    collate: v.string(),
    ctype: v.string(),
    /** The ICU or builtin locale where the provider has one. */
    locale: v.optional(v.string()),
    icuRules: v.optional(v.string()),
    collationVersion: v.optional(v.string()),
  }),
  connectionLimit: v.number(),
  /** Tablespaces that single tables or indexes are in; absent where there are none. */
  tablespaces: v.optional(v.array(v.string())),
  /** Bytes on the server's disk. */
  sizeBytes: Count,
  extensions: v.array(v.object({ name: v.string(), version: v.string(), schema: v.string() })),
  /** Names only: attributes and SCRAM verifiers are in the file of role `roles`, which is encrypted like the rest. */
  roles: v.array(v.string()),
  /** False where the backup's user may not read `pg_authid`: roles are then restored without a password. */
  passwordsIncluded: v.boolean(),
  tables: v.array(Table),
  largeObjects: Count,
});

const Base = v.object({
  /** Recovery begins at `startLsn`, and the directory is consistent from `stopLsn` on, both on this timeline. */
  timeline: Count,
  startLsn: v.string(),
  stopLsn: v.string(),
  /** The server's clock at `stopLsn`: the earliest moment that can be restored from this backup. */
  stoppedAt: Time,
  segmentBytes: Count,
  /** The WAL from start to stop is in the tar of the data directory, so that it restores without an archive. */
  walIncluded: v.boolean(),
  engine: v.picklist(["protocol", "pg_basebackup"]),
  /** The server that sent it was a standby. */
  fromStandby: v.boolean(),
  label: v.string(),
  checkpoint: v.picklist(["fast", "spread"]),
  dataChecksums: v.boolean(),
  /** Bytes of the data directory with all tablespaces, as the server's disk holds them. */
  sizeBytes: Count,
  tablespaces: v.array(v.object({ oid: Count, name: v.string(), location: v.string() })),
  /** The databases at the start; one that was made during the backup is not among them. */
  databases: v.array(v.object({ name: v.string(), oid: Count, sizeBytes: Count })),
});

const Manifest = v.object({
  format: v.literal(manifestFormat),
  id: v.string(),
  kind: v.picklist(["logical", "base"]),
  /** The repository's own id, so that a manifest copied elsewhere is noticed. */
  repository: v.string(),
  instance: v.string(),
  database: v.optional(v.string()),
  /** The id of the backup that an incremental one builds on; absent in a full one. */
  parent: v.optional(v.string()),
  startedAt: Time,
  finishedAt: Time,
  server: v.object({ version: v.string(), systemId: v.string() }),
  tools: v.object({ pgkit: v.string(), pgDump: v.optional(v.string()), pgBasebackup: v.optional(v.string()) }),
  /** age recipients (public keys) that every file is encrypted to; absent where nothing is encrypted. */
  recipients: v.optional(v.array(v.string())),
  plainBytes: Count,
  storedBytes: Count,
  /** How the stored bytes were proven before this manifest was written: by the store's own checksum or read back. */
  proof: v.picklist(["store-checksum", "read-back"]),
  files: v.array(StoredFile),
  logical: v.optional(Logical),
  base: v.optional(Base),
});

export type Manifest = v.InferOutput<typeof Manifest>;
export type StoredFile = v.InferOutput<typeof StoredFile>;
export type Volume = v.InferOutput<typeof Volume>;
export type LogicalFacts = v.InferOutput<typeof Logical>;
export type BaseFacts = v.InferOutput<typeof Base>;
export type TableFacts = v.InferOutput<typeof Table>;

/**
 * The manifest in `text`. Unknown keys are dropped, so a later pgkit may add some without a new format. Fails with
 * `manifest-corrupt` or, for a newer format, `format-unsupported`.
 */
export function parseManifest(text: string, where: string): Manifest {
  const json = parseJson(text, where);
  const format = typeof json === "object" && json !== null && "format" in json ? json.format : undefined;
  if (typeof format === "number" && format > manifestFormat) {
    throw new PgkitError(
      "format-unsupported",
      `${where} is of format ${format}, this pgkit knows up to ${manifestFormat}`,
      {
        hint: "use the pgkit that wrote it, or a newer one",
      },
    );
  }
  const result = v.safeParse(Manifest, json);
  if (result.success) return result.output;
  const [issue] = result.issues;
  throw new PgkitError(
    "manifest-corrupt",
    `${where} is not a manifest: ${v.getDotPath(issue) ?? ""} ${issue.message}`,
    {
      hint: "run pgkit verify; a backup whose manifest is damaged can still be restored by hand (RESTORE.md)",
    },
  );
}

/** The bytes to store: indented, keys in a fixed order, one newline at the end. */
export function formatManifest(manifest: Manifest): Uint8Array {
  return Buffer.from(`${JSON.stringify(v.parse(Manifest, manifest), undefined, 2)}\n`);
}

function parseJson(text: string, where: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new PgkitError("manifest-corrupt", `${where} is not JSON (${text.length} characters)`, {
      hint: "it was cut or changed after it was written; is another copy of the repository at hand?",
      cause,
    });
  }
}
