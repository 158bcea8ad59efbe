export type ProvisionFormat = "statefulset" | "argocd";

/** What a dedicated instance is rendered of: where it is to be, and the figures of the database that moves there. */
export interface ProvisionRequest {
  readonly database: string;
  readonly namespace: string;
  /** Of the Service and the StatefulSet, or of the release. */
  readonly name: string;
  /** The Secret that holds the superuser's password; it is never rendered. */
  readonly secret: { readonly name: string; readonly key: string };
  readonly storageClass: string | undefined;
  readonly figures: ProvisionFigures;
}

export interface ProvisionFigures {
  readonly major: number;
  readonly sizeBytes: number;
  /** Sessions of the database in use. */
  readonly connections: number;
  readonly extensions: readonly string[];
  /** `en_US.utf8`; that the new server's image must have. */
  readonly collate: string;
}

export interface ProvisionSizes {
  readonly volumeBytes: number;
  readonly memoryBytes: number;
  readonly sharedBuffersBytes: number;
  readonly cpuMillis: number;
  readonly maxConnections: number;
}

const mib = 1024 ** 2;
const gib = 1024 ** 3;

/**
 * The volume holds the database three times (itself, WAL kept for a slot, a rewrite of its biggest table), 10 GiB at the
 * least. Memory holds half of the database, between 1 and 16 GiB, and 10 MiB a session, twice those that are in use.
 */
export function provisionSizes({ sizeBytes, connections }: ProvisionFigures): ProvisionSizes {
  const maxConnections = Math.max(100, Math.ceil((connections * 2) / 50) * 50);
  const cache = Math.min(16 * gib, Math.max(512 * mib, sizeBytes / 2));
  const memoryBytes = Math.ceil((cache + 256 * mib + connections * 2 * 10 * mib) / (256 * mib)) * 256 * mib;
  return {
    volumeBytes: Math.max(10, Math.ceil((3 * sizeBytes) / gib)) * gib,
    memoryBytes: Math.max(gib, memoryBytes),
    sharedBuffersBytes: Math.floor(Math.max(gib, memoryBytes) / 4 / mib) * mib,
    cpuMillis: Math.min(4000, 250 + Math.ceil(connections / 10) * 250),
    maxConnections,
  };
}

/** What the server needs to be the target of an online move, and the source of the way back. */
export function serverSettings({ sharedBuffersBytes, maxConnections }: ProvisionSizes): Record<string, string> {
  return {
    wal_level: "logical",
    max_replication_slots: "20",
    max_wal_senders: "20",
    max_connections: String(maxConnections),
    shared_buffers: `${sharedBuffersBytes / mib}MB`,
  };
}

/** What a person must see to before the instance can take the database: sentences, none where all is known to fit. */
export function provisionNotes({ figures }: ProvisionRequest, format: ProvisionFormat): string[] {
  const extensions = figures.extensions.filter(
    (name) => !contrib.has(name) && !(format === "statefulset" && name === "vector"),
  );
  const locales = ["C", "POSIX", "C.UTF-8", "C.utf8", "en_US.UTF-8", "en_US.utf8"];
  return [
    ...(extensions.length === 0
      ? []
      : [`the image must have what the extensions ${extensions.join(", ")} need: change it where it has not`]),
    ...(locales.includes(figures.collate)
      ? []
      : [`the image must have the locale ${figures.collate}, which the database has: change it where it has not`]),
  ];
}

/** Extensions that come with every server that is packaged whole: https://www.postgresql.org/docs/current/contrib.html */
const contrib: ReadonlySet<string> = new Set([
  ...["plpgsql", "amcheck", "bloom", "btree_gin", "btree_gist", "citext", "cube", "dblink", "dict_int", "dict_xsyn"],
  ...["earthdistance", "file_fdw", "fuzzystrmatch", "hstore", "intarray", "isn", "lo", "ltree", "pageinspect"],
  ...[
    "pg_buffercache",
    "pg_freespacemap",
    "pg_prewarm",
    "pg_stat_statements",
    "pg_surgery",
    "pg_trgm",
    "pg_visibility",
  ],
  ...["pg_walinspect", "pgcrypto", "pgrowlocks", "pgstattuple", "postgres_fdw", "seg", "sslinfo", "tablefunc", "tcn"],
  ...["tsm_system_rows", "tsm_system_time", "unaccent", "uuid-ossp", "xml2"],
]);

/** Labels of all that is rendered for an application's own instance. */
export function provisionLabels({ name }: ProvisionRequest) {
  return { "app.kubernetes.io/name": "postgresql", "app.kubernetes.io/instance": name };
}

/** The kubectl line that makes the Secret, with a password that nobody has seen. */
export function secretLine({ namespace, secret }: ProvisionRequest): string {
  return `kubectl -n ${namespace} create secret generic ${secret.name} --from-literal=${secret.key}="$(openssl rand -hex 24)"`;
}
