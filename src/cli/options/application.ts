import { option } from "./option.ts";
import * as value from "./values.ts";

const application = "applications.*";
const target = `${application}.switch`;

/** What the file says of each application: where its database is, and what points it there. */
export const applicationOptions = {
  database: option(value.text, { key: `${application}.database`, doc: "the application's database" }),
  instance: option(value.text, { key: `${application}.instance`, doc: "the instance where it lives" }),
  dedicated: option(value.text, {
    key: `${application}.dedicated`,
    doc: "the instance that `--to dedicated` means",
  }),
  secretNamespace: option(value.text, {
    key: `${target}.secret.namespace`,
    doc: "namespace of the Kubernetes Secret that the application reads",
  }),
  secretName: option(value.text, { key: `${target}.secret.name`, doc: "name of that Secret" }),
  secretKubeseal: option(value.listOf(value.text), {
    key: `${target}.secret.kubeseal`,
    doc: "kubeseal and its arguments, to write a SealedSecret for `--gitops-out`; it reads the Secret on stdin",
  }),
  secretRolloutTimeout: option(value.duration, {
    key: `${target}.secret.rolloutTimeout`,
    default: 300_000,
    defaultDoc: "`5m`",
    doc: "how long what reads that Secret may take to become ready after a switch",
  }),
  pgbouncerAdmin: option(value.postgresUrl, {
    key: `${target}.pgbouncer.admin`,
    secret: true,
    doc: "admin console of the PgBouncer in front of the database",
  }),
  pgbouncerDatabases: option(value.listOf(value.text), {
    key: `${target}.pgbouncer.databases`,
    doc: "its databases that are switched",
  }),
  pgbouncerConfigFile: option(value.path, {
    key: `${target}.pgbouncer.configFile`,
    doc: "its configuration file",
  }),
  haproxySocket: option(value.socket, {
    key: `${target}.haproxy.socket`,
    doc: "admin socket of the HAProxy in front of the database (runtime API)",
  }),
  haproxyBackend: option(value.text, { key: `${target}.haproxy.backend`, doc: "its backend" }),
  haproxyServer: option(value.text, { key: `${target}.haproxy.server`, doc: "the server in that backend" }),
  envFilePath: option(value.path, {
    key: `${target}.envFile.path`,
    doc: "environment file that the application reads",
  }),
  command: option(value.listOf(value.text), {
    key: `${target}.command`,
    doc: "program that is given `from` and `to` as JSON on stdin; exit status 0 means that it is done",
  }),
};

/** The keys under which a Secret or an environment file says where the database is. */
export const endpointKeyOptions = {
  secret: endpointKeys("secret", "of that Secret"),
  envFile: endpointKeys("envFile", "of that file"),
};

function endpointKeys(group: "secret" | "envFile", where: string) {
  const row = (part: string) =>
    option(value.text, { key: `${target}.${group}.keys.${part}`, doc: `key ${where} with the ${part}` });
  return {
    url: row("url"),
    host: row("host"),
    port: row("port"),
    user: row("user"),
    password: row("password"),
    database: row("database"),
  };
}
