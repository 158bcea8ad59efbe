import { option } from "./option.ts";
import * as value from "./values.ts";

/** Every command takes these. */
export const globalOptions = {
  config: option(value.path, {
    flag: "--config <file>",
    env: "PGKIT_CONFIG",
    defaultDoc: "`./pgkit.yaml`, else `/etc/pgkit/pgkit.yaml`",
    doc: "the configuration file",
  }),
  instance: option(value.text, {
    flag: "--instance <name>",
    env: "PGKIT_INSTANCE",
    defaultDoc: "the only one there is",
    doc: "the instance of the configuration that this is about",
  }),
  repository: option(value.text, {
    flag: "--repository <url>",
    env: "PGKIT_REPOSITORY",
    defaultDoc: "`repository:` or `repositories:` of the file, else a folder of the user's data folder",
    doc: "the repository: a URL, a path, or the name of one of `repositories:`",
  }),
  json: option(value.yesOrNo, { flag: "--json", default: false, doc: "print the result as one JSON document" }),
  quiet: option(value.yesOrNo, { flag: "-q, --quiet", default: false, doc: "print nothing but the result and errors" }),
  verbose: option(value.yesOrNo, {
    flag: "-v, --verbose",
    env: "PGKIT_VERBOSE",
    default: false,
    doc: "print the causes of an error too",
  }),
  progress: option(value.choice("auto", "bar", "plain", "json", "events"), {
    flag: "--progress <form>",
    env: "PGKIT_PROGRESS",
    default: "auto",
    doc: "how progress is shown on stderr; `auto` is `bar` on a terminal, else `plain`, and nothing with --json; `events` writes progress, result and error to stdout, a JSON object a line",
  }),
  timeZone: option(value.timeZone, {
    key: "timeZone",
    flag: "--time-zone <zone>",
    env: "PGKIT_TIME_ZONE",
    default: "UTC",
    doc: "the zone of times written without an offset, and of schedules",
  }),
};

/** What the environment, but no flag, says of the repository and of this machine. */
export const machineOptions = {
  compressionLevel: option(value.wholeNumber(1, 19), {
    key: "compression.level",
    env: "PGKIT_COMPRESSION_LEVEL",
    default: 1,
    doc: "zstd level of what is stored",
  }),
  compressionThreads: option(value.wholeNumber(1, 64), {
    key: "compression.threads",
    env: "PGKIT_COMPRESSION_THREADS",
    default: 2,
    doc: "blocks of one stream that are compressed at the same time",
  }),
  actor: option(value.text, {
    env: "PGKIT_ACTOR",
    defaultDoc: "the user of the system",
    doc: "who the audit record says did it",
  }),
  kubeconfig: option(value.path, {
    key: "kubernetes.kubeconfig",
    env: "PGKIT_KUBECONFIG",
    defaultDoc: "`KUBECONFIG`, else `~/.kube/config`, else the Pod's ServiceAccount",
    doc: "how Kubernetes is reached, where something of it is used",
  }),
  kubeContext: option(value.text, {
    key: "kubernetes.context",
    env: "PGKIT_KUBE_CONTEXT",
    defaultDoc: "the current one",
    doc: "the context of the kubeconfig",
  }),
  postgresBin: option(value.listOf(value.path), {
    key: "postgresBin",
    env: "PGKIT_POSTGRES_BIN",
    defaultDoc: "where the system's packages put them, and the PATH",
    doc: "folders with the PostgreSQL programs (pg_dump, pg_restore, psql), looked into first",
  }),
};

/** Where `PG*` says that the instance `default` is, when the file names no instance. */
export const connectionOptions = {
  host: option(value.text, {
    env: "PGHOST",
    defaultDoc: "the socket in `/var/run/postgresql` where there is one, else `localhost`",
    doc: "host, or the folder of the socket",
  }),
  port: option(value.wholeNumber(1, 65_535), { env: "PGPORT", default: 5432, doc: "port" }),
  user: option(value.text, {
    env: "PGUSER",
    defaultDoc: "the user of the system, `postgres` where it has no name",
    doc: "role",
  }),
  database: option(value.text, { env: "PGDATABASE", default: "postgres", doc: "database to connect to first" }),
  password: option(value.text, { env: "PGPASSWORD", secret: true, doc: "password" }),
  passwordFile: option(value.path, {
    env: "PGPASSFILE",
    defaultDoc: "`~/.pgpass`",
    doc: "password file, for every instance that has no password of its own",
  }),
  sslmode: option(value.choice("disable", "allow", "prefer", "require", "verify-ca", "verify-full"), {
    env: "PGSSLMODE",
    defaultDoc: "`prefer`",
    doc: "TLS, as libpq understands it",
  }),
  sslrootcert: option(value.text, { env: "PGSSLROOTCERT", doc: "file of the certificate authority" }),
  sslcert: option(value.text, { env: "PGSSLCERT", doc: "file of the client certificate" }),
  sslkey: option(value.text, { env: "PGSSLKEY", doc: "file of the client key" }),
};
