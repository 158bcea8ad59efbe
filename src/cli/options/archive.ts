import { option } from "./option.ts";
import * as value from "./values.ts";

const instance = "instances.*";

/** How base backups of an instance are taken. */
export const baseOptions = {
  engine: option(value.choice("protocol", "pg_basebackup"), {
    key: `${instance}.base.engine`,
    default: "protocol" as const,
    doc: "`protocol` speaks BASE_BACKUP itself; `pg_basebackup` runs the program, for connections that only libpq makes",
  }),
  standby: option(value.postgresUrl, {
    key: `${instance}.base.standby`,
    secret: true,
    defaultDoc: "the instance itself",
    doc: "a standby to take base backups from, as a URL; the password is that of the instance",
  }),
  checkpoint: option(value.choice("fast", "spread"), {
    key: `${instance}.base.checkpoint`,
    default: "fast" as const,
    doc: "`spread` spares the server's disk and lets the backup begin minutes later",
  }),
  maxRate: option(value.byteSize, {
    key: `${instance}.base.maxRate`,
    defaultDoc: "unlimited",
    doc: "bytes a second that the server sends at most",
  }),
  level: option(value.wholeNumber(1, 22), {
    key: `${instance}.base.level`,
    default: 1,
    doc: "zstd level by which the server compresses what it sends",
  }),
  workers: option(value.wholeNumber(0, 64), {
    key: `${instance}.base.workers`,
    default: 2,
    doc: "threads by which the server compresses",
  }),
};

/** Continuous archiving of an instance. */
export const archiveOptions = {
  method: option(value.choice("archive", "stream"), {
    key: `${instance}.archive.method`,
    default: "stream" as const,
    doc: "`archive`: the server runs `pgkit wal push` as its archive_command; `stream`: `pgkit wal stream` follows it",
  }),
  timeout: option(value.duration, {
    key: `${instance}.archive.timeout`,
    default: 60_000,
    defaultDoc: "`60s`",
    doc: "archive_timeout: how old what was written may become before its segment is closed and archived",
  }),
  command: option(value.text, {
    key: `${instance}.archive.command`,
    defaultDoc: "this pgkit, with its configuration file",
    doc: "how the server's machine runs pgkit, as words of a shell: `pgkit --config /etc/pgkit/pgkit.yaml`",
  }),
  spool: option(value.text, {
    key: `${instance}.archive.spool`,
    default: "pg_wal/pgkit",
    doc: "folder for what is under way between server and repository, relative to the data directory",
  }),
  parallel: option(value.wholeNumber(1, 64), {
    key: `${instance}.archive.parallel`,
    default: 4,
    doc: "WAL files that are stored or fetched at the same time",
  }),
  slot: option(value.text, {
    key: `${instance}.archive.slot`,
    defaultDoc: "`pgkit_` and the instance's name",
    doc: "the replication slot that keeps WAL on the server until it is stored",
  }),
  streamFolder: option(value.path, {
    key: `${instance}.archive.streamFolder`,
    defaultDoc: "a folder of the instance in the user's data folder",
    doc: "where `pgkit wal stream` keeps the segments that are not complete yet",
  }),
  flushEvery: option(value.duration, {
    key: `${instance}.archive.flushEvery`,
    default: 5000,
    defaultDoc: "`5s`",
    doc: "how often `pgkit wal stream` stores the current segment: what may be lost when the server ends suddenly",
  }),
  onFull: option(value.choice("alert", "gap"), {
    key: `${instance}.archive.onFull`,
    default: "alert" as const,
    doc: "at `alertBytes` of WAL that is not stored: `alert` says so; `gap` also drops the slot, records the gap and takes a new base backup",
  }),
  warnBytes: option(value.byteSize, {
    key: `${instance}.archive.warnBytes`,
    default: 1024 ** 3,
    defaultDoc: "`1GiB`",
    doc: "warn when so much WAL on the server is not stored yet",
  }),
  alertBytes: option(value.byteSize, {
    key: `${instance}.archive.alertBytes`,
    default: 8 * 1024 ** 3,
    defaultDoc: "`8GiB`",
    doc: "alert when so much WAL on the server is not stored yet",
  }),
  warnAfter: option(value.duration, {
    key: `${instance}.archive.warnAfter`,
    default: 300_000,
    defaultDoc: "`5m`",
    doc: "warn when WAL has not been stored for so long",
  }),
  alertAfter: option(value.duration, {
    key: `${instance}.archive.alertAfter`,
    default: 900_000,
    defaultDoc: "`15m`",
    doc: "alert when WAL has not been stored for so long",
  }),
};
