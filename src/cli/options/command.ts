import { option, type ValuesOf } from "./option.ts";
import * as value from "./values.ts";

/** Flags of single commands; a command lists the names of those that it takes. */
export const commandOptions = {
  dryRun: option(value.yesOrNo, {
    flag: "-n, --dry-run",
    default: false,
    doc: "print what would be done and change nothing",
  }),
  backup: option(value.text, {
    flag: "--backup <id>",
    defaultDoc: "the newest of the database",
    doc: "the backup to take",
  }),
  as: option(value.text, { flag: "--as <name>", defaultDoc: "the database's own", doc: "the name to restore under" }),
  replace: option(value.yesOrNo, {
    flag: "--replace",
    default: false,
    doc: "put the restored database in the place of the live one, which is kept under another name",
  }),
  toInstance: option(value.text, {
    flag: "--to-instance <name>",
    defaultDoc: "the one that was backed up",
    doc: "the instance to restore into",
  }),
  table: option(value.listOf(value.text), {
    flag: "--table <table>",
    default: [],
    doc: "only this table (several times for several): back into the live database, or by --as into a new one",
  }),
  schemaOnly: option(value.yesOrNo, { flag: "--schema-only", default: false, doc: "everything but the rows" }),
  updateRoles: option(value.yesOrNo, {
    flag: "--update-roles",
    default: false,
    doc: "give roles that exist the attributes, settings and passwords of the backup",
  }),
  jobs: option(value.wholeNumber(1, 64), {
    flag: "-j, --jobs <number>",
    defaultDoc: "`jobs` of the instance",
    doc: "parallel jobs inside one big database",
  }),
  deep: option(value.yesOrNo, {
    flag: "--deep",
    default: false,
    doc: "restore into a scratch server on this machine and compare",
  }),
  yes: option(value.yesOrNo, {
    flag: "-y, --yes",
    default: false,
    doc: "do not ask before something is destroyed",
  }),
  singleWriter: option(value.yesOrNo, {
    flag: "--single-writer",
    default: false,
    doc: "no other pgkit works on the repository; needed to prune where the store ignores conditional writes",
  }),
  until: option(value.text, {
    flag: "--until <time>",
    doc: "keep the backup until then: a time such as 2027-01-31 or +90d",
  }),
  forever: option(value.yesOrNo, { flag: "--forever", default: false, doc: "keep the backup until it is released" }),
  release: option(value.yesOrNo, { flag: "--release", default: false, doc: "let retention decide again" }),
  method: option(value.choice("archive", "stream"), {
    flag: "--method <method>",
    defaultDoc: "`archive.method` of the instance",
    doc: "how WAL comes to the repository: the server's archive_command, or pgkit wal stream",
  }),
  newLineage: option(value.yesOrNo, {
    flag: "--new-lineage",
    default: false,
    doc: "the server was upgraded or made anew: its WAL is kept beside that of the one before",
  }),
  replaceCommand: option(value.yesOrNo, {
    flag: "--replace-command",
    default: false,
    doc: "replace an archive_command that is not pgkit's; pgkit pitr disable puts it back",
  }),
  withWal: option(value.yesOrNo, {
    flag: "--with-wal",
    default: false,
    doc: "store the WAL from its start to its end in the base backup, so that it restores without an archive",
  }),
  label: option(value.text, {
    flag: "--label <text>",
    defaultDoc: "`pgkit` and the backup's id",
    doc: "what PostgreSQL writes into backup_label and its log",
  }),
  checkpoint: option(value.choice("fast", "spread"), {
    flag: "--checkpoint <speed>",
    defaultDoc: "`base.checkpoint` of the instance",
    doc: "`fast` begins at once; `spread` spares the server's disk and begins minutes later",
  }),
  maxRate: option(value.byteSize, {
    flag: "--max-rate <bytes>",
    defaultDoc: "`base.maxRate` of the instance",
    doc: "bytes a second that the server sends at most",
  }),
  walTimeout: option(value.duration, {
    flag: "--wal-timeout <time>",
    default: 60_000,
    defaultDoc: "`60s`",
    doc: "how long the WAL of a base backup may come no further until the backup fails",
  }),
  incremental: option(value.yesOrNo, {
    flag: "--incremental",
    default: false,
    doc: "store only what has changed since the newest base backup (PostgreSQL 17 and newer)",
  }),
  engine: option(value.choice("protocol", "pg_basebackup"), {
    flag: "--engine <engine>",
    defaultDoc: "`base.engine` of the instance",
    doc: "how a base backup is taken: by pgkit itself, or by the program",
  }),
  standby: option(value.postgresUrl, {
    flag: "--standby <url>",
    defaultDoc: "`base.standby` of the instance",
    secret: true,
    doc: "the standby to take the base backup from; the password is that of the instance",
  }),
  flushEvery: option(value.duration, {
    flag: "--flush-every <duration>",
    defaultDoc: "`archive.flushEvery` of the instance",
    doc: "how often the current segment is stored: what may be lost when the server ends suddenly",
  }),
  ready: option(value.yesOrNo, {
    flag: "--ready",
    default: false,
    doc: "store all that PostgreSQL has ready, and go on until nothing has been for a minute",
  }),
  ahead: option(value.yesOrNo, {
    flag: "--ahead",
    default: false,
    doc: "keep the segments that recovery asks for next ready in the spool, as long as it takes them",
  }),
  reason: option(value.text, { flag: "--reason <text>", doc: "why, for those who find the pin later" }),
};

export type CommandFlags = ValuesOf<typeof commandOptions>;
