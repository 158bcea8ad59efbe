import { option } from "./option.ts";
import * as value from "./values.ts";

const instance = "instances.*";

/** What the file says of each instance. */
export const instanceOptions = {
  url: option(value.postgresUrl, {
    key: `${instance}.url`,
    secret: true,
    doc: "where the server is, with the TLS settings of libpq (sslmode, sslrootcert, sslcert, sslkey); a password in it is never printed",
  }),
  passwordEnv: option(value.text, {
    key: `${instance}.passwordFrom.env`,
    doc: "environment variable that holds the password",
  }),
  passwordFile: option(value.path, {
    key: `${instance}.passwordFrom.file`,
    doc: "file that holds the password; a line end after it does not count",
  }),
  passwordSecretNamespace: option(value.text, {
    key: `${instance}.passwordFrom.secret.namespace`,
    doc: "namespace of the Kubernetes Secret that holds the password",
  }),
  passwordSecretName: option(value.text, { key: `${instance}.passwordFrom.secret.name`, doc: "name of that Secret" }),
  passwordSecretKey: option(value.text, { key: `${instance}.passwordFrom.secret.key`, doc: "key in that Secret" }),
  peer: option(value.hostAndPort, {
    key: `${instance}.peer`,
    defaultDoc: "that of the url",
    doc: "`host:port` by which other PostgreSQL servers reach it, for the replication of an online move",
  }),
  endpoint: option(value.hostAndPort, {
    key: `${instance}.endpoint`,
    defaultDoc: "that of the url",
    doc: "`host:port` by which applications reach it: what a move writes into Secrets and proxies",
  }),
  statefulSet: option(value.text, {
    key: `${instance}.kubernetes.statefulSet`,
    defaultDoc: "the one behind the Service of the url",
    doc: "the StatefulSet that the server is, in `kubernetes.namespace`: for `pgkit restore --in-kubernetes`",
  }),
  serverDataDir: option(value.text, {
    key: `${instance}.kubernetes.dataDir`,
    defaultDoc: "by its Pod's image and variables",
    doc: "the data directory in that StatefulSet's Pod",
  }),
  serverUser: option(value.wholeNumber(0, 4_294_967_294), {
    key: `${instance}.kubernetes.user`,
    defaultDoc: "by its Pod's security context and image",
    doc: "the user id that owns the data",
  }),
  include: option(value.listOf(value.text), {
    key: `${instance}.databases.include`,
    defaultDoc: "every database but the templates",
    doc: "patterns (`*` and `?`) of the databases to back up",
  }),
  exclude: option(value.listOf(value.text), {
    key: `${instance}.databases.exclude`,
    default: [],
    doc: "patterns of databases to leave out",
  }),
  connections: option(value.wholeNumber(1, 1000), {
    key: `${instance}.connections`,
    default: 4,
    doc: "connections that backups may hold on the server at once",
  }),
  jobs: option(value.wholeNumber(1, 64), {
    key: `${instance}.jobs`,
    default: 2,
    doc: "parallel jobs inside one big database",
  }),
  wholeBelow: option(value.byteSize, {
    key: `${instance}.wholeBelow`,
    default: 256 * 1024 ** 2,
    defaultDoc: "`256MiB`",
    doc: "a smaller database is stored as one archive, a bigger one in parts by parallel jobs",
  }),
  countRows: option(value.yesOrNo, {
    key: `${instance}.countRows`,
    default: true,
    doc: "count the rows of every table, so that a restore can be compared; false takes PostgreSQL's estimates",
  }),
  scheduleLogical: option(value.cron, {
    key: `${instance}.schedule.logical`,
    defaultDoc: "none",
    doc: "when logical backups start",
  }),
  scheduleBase: option(value.cron, {
    key: `${instance}.schedule.base`,
    defaultDoc: "none",
    doc: "when base backups start",
  }),
  schedulePrune: option(value.cron, {
    key: `${instance}.schedule.prune`,
    defaultDoc: "none",
    doc: "when the CronJob of `pgkit manifests` applies the retention",
  }),
  scheduleVerify: option(value.cron, {
    key: `${instance}.schedule.verify`,
    defaultDoc: "none",
    doc: "when its CronJob reads all backups back",
  }),
  scheduleCheck: option(value.cron, {
    key: `${instance}.schedule.check`,
    defaultDoc: "none",
    doc: "when its CronJob runs `pgkit check`, which fails where a backup is overdue or archiving is in trouble",
  }),
  scheduleTimeZone: option(value.timeZone, {
    key: `${instance}.schedule.timeZone`,
    defaultDoc: "`timeZone`",
    doc: "zone of the cron lines",
  }),
  scheduleGrace: option(value.duration, {
    key: `${instance}.schedule.grace`,
    default: 3_600_000,
    defaultDoc: "`1h`",
    doc: "how long after its start a run may be missing before it is overdue",
  }),
  rpo: option(value.duration, {
    key: `${instance}.objectives.rpo`,
    defaultDoc: "none",
    doc: "how much time of writes may be lost",
  }),
  rto: option(value.duration, {
    key: `${instance}.objectives.rto`,
    defaultDoc: "none",
    doc: "how long a restore may take",
  }),
};

/** What is kept of each kind of backup; a backup goes when no rule keeps it, and without rules all stay. */
export function retentionOptions<const Kind extends "logical" | "base">(kind: Kind) {
  const rule = (name: string, doc: string) =>
    option(value.wholeNumber(0), { key: `${instance}.retention.${kind}.${name}`, defaultDoc: "none", doc });
  const newest = (unit: string) => `keep the newest of each of the last so many ${unit} with a ${kind} backup`;
  return {
    keepLast: rule("keepLast", `keep the last so many ${kind} backups`),
    keepHourly: rule("keepHourly", newest("hours")),
    keepDaily: rule("keepDaily", newest("days")),
    keepWeekly: rule("keepWeekly", newest("weeks")),
    keepMonthly: rule("keepMonthly", newest("months")),
    keepYearly: rule("keepYearly", newest("years")),
    window: option(value.duration, {
      key: `${instance}.retention.${kind}.window`,
      defaultDoc: "none",
      doc: `keep what is needed to restore to any moment of this long ago until now`,
    }),
  };
}

export const retentionLogicalOptions = retentionOptions("logical");
export const retentionBaseOptions = retentionOptions("base");

export type RetentionOptions = typeof retentionLogicalOptions | typeof retentionBaseOptions;
