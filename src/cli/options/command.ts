import { inKubernetesOptions } from "./in-kubernetes.ts";
import { moveOptions } from "./move.ts";
import { option, type ValuesOf } from "./option.ts";
import { restoreVolumeOptions } from "./restore-volume.ts";
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
    defaultDoc: "the newest that serves",
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
  output: option(value.path, {
    flag: "-o, --output <directory>",
    defaultDoc: "none: they are printed",
    doc: "write the manifests there, as a Kustomize base; what an earlier run wrote there and is rendered no more goes",
  }),
  diff: option(value.yesOrNo, {
    flag: "--diff",
    default: false,
    doc: "say how the cluster differs from the manifests; exit status 40 when it does",
  }),
  render: option(value.yesOrNo, {
    flag: "--render",
    default: false,
    doc: "write the manifests to stdout",
  }),
  format: option(value.choice("statefulset", "argocd"), {
    flag: "--format <format>",
    default: "statefulset" as const,
    doc: "a StatefulSet of the official image, or an ArgoCD Application with the Bitnami chart",
  }),
  live: option(value.yesOrNo, {
    flag: "--live",
    default: false,
    doc: "ask only whether the streamer itself works: to start it anew because the server or the store is down helps nobody",
  }),
  ahead: option(value.yesOrNo, {
    flag: "--ahead",
    default: false,
    doc: "keep the segments that recovery asks for next ready in the spool, as long as it takes them",
  }),
  dataDir: option(value.path, {
    flag: "--data-dir <directory>",
    doc: "the directory that becomes the data directory of the restored instance: empty, or to be made",
  }),
  toTime: option(value.text, {
    flag: "--to-time <time>",
    doc: "recover to this moment: RFC 3339, a time in --time-zone, or -15m (that long ago)",
  }),
  toLsn: option(value.text, { flag: "--to-lsn <position>", doc: "recover to this WAL position, such as 0/3000148" }),
  toXid: option(value.text, { flag: "--to-xid <xid>", doc: "recover until this transaction has ended" }),
  toName: option(value.text, {
    flag: "--to-name <name>",
    doc: "recover to this restore point, made by pg_create_restore_point",
  }),
  immediate: option(value.yesOrNo, {
    flag: "--immediate",
    default: false,
    doc: "recover to the end of the base backup and no further",
  }),
  latest: option(value.yesOrNo, {
    flag: "--latest",
    default: false,
    doc: "recover all that is stored; so it is without any target",
  }),
  exclusive: option(value.yesOrNo, {
    flag: "--exclusive",
    default: false,
    doc: "end right before the time, position or transaction, rather than with it",
  }),
  timeline: option(value.text, {
    flag: "--timeline <timeline>",
    defaultDoc: "`latest`",
    doc: "the history to follow: latest, current (that of the backup) or a number",
  }),
  action: option(value.choice("promote", "pause", "shutdown"), {
    flag: "--action <action>",
    default: "promote" as const,
    doc: "what the recovered server does at the target",
  }),
  systemId: option(value.text, {
    flag: "--system-id <id>",
    defaultDoc: "the one that has the target",
    doc: "which server is meant, where the instance has been several (after pg_upgrade, or made anew)",
  }),
  tablespace: option(value.listOf(value.text), {
    flag: "--tablespace <oid=directory>",
    default: [],
    doc: "where a tablespace goes, by its oid or name (several times for several); otherwise to where it was",
  }),
  delta: option(value.yesOrNo, {
    flag: "--delta",
    default: false,
    doc: "restore over a data directory of the same system, and keep what is right in it",
  }),
  start: option(value.yesOrNo, {
    flag: "--start",
    default: false,
    doc: "run recovery here, with the server's programs of this machine, and tell what was reached",
  }),
  setAside: option(value.text, {
    flag: "--set-aside <name>",
    doc: "rename what is in --data-dir to this name beside it first; run again after a kill, the restore goes on",
  }),
  putBack: option(value.text, {
    flag: "--put-back <name>",
    doc: "undo a restore with --set-aside: what was in --data-dir before is there again",
  }),
  dropAside: option(value.text, {
    flag: "--drop-aside <name>",
    doc: "remove what a completed restore with --set-aside has kept under this name",
  }),
  withoutArchiving: option(value.yesOrNo, {
    flag: "--without-archiving",
    default: false,
    doc: "set archive_mode to off in the restored instance: for a copy beside the living one",
  }),
  scratch: option(value.text, {
    flag: "--scratch <directory>",
    defaultDoc: "TMPDIR",
    doc: "where the scratch server of a database's recovery has its files, which are removed afterwards",
  }),
  whole: option(value.yesOrNo, {
    flag: "--whole",
    default: false,
    doc: "recover a database with the files of all others, too, rather than with its own",
  }),
  withoutContentCheck: option(value.yesOrNo, {
    flag: "--without-content-check",
    default: false,
    doc: "compare only the tables and the number of their rows, not what is in them",
  }),
  ...restoreVolumeOptions,
  ...moveOptions,
  ...inKubernetesOptions,
  reason: option(value.text, { flag: "--reason <text>", doc: "why, for those who find the pin later" }),
};

export type CommandFlags = ValuesOf<typeof commandOptions>;
