import { expect, test } from "vitest";
import type { Config } from "../../src/cli/config.ts";
import { instanceOptions } from "../../src/cli/options/instance.ts";
import { printConfig, type RunOptions, run, testCommand } from "./run.ts";

const recipient = `age1${"q".repeat(58)}`;

async function configOf(options: RunOptions, ...flags: string[]) {
  const ran = await run(["print-config", "--json", ...flags], { ...options, commands: [printConfig] });
  expect(ran.stderr).toBe("");
  expect(ran.status).toBe(0);
  // Maps have become objects on their way through JSON.
  const config: Omit<Config, "instances" | "applications"> & {
    instances: Record<string, Config["instances"] extends ReadonlyMap<string, infer I> ? I : never>;
    applications: Record<string, unknown>;
  } = JSON.parse(ran.stdout);
  return { ...ran, config };
}

async function refusal(yaml: string, options: RunOptions = {}) {
  const files = { "pgkit.yaml": yaml };
  const ran = await run(["print-config"], { ...options, files, commands: [printConfig] });
  expect(ran.stdout).toBe("");
  return ran;
}

/** The example of the contract. */
const whole = `
repository: s3://my-pg-backup/prod
storage:
  endpoint: https://rgw.example:7480
  region: us-east-1
  pathStyle: true
  caFile: /etc/pgkit/ca.crt
encryption:
  recipients: [${recipient}]
  identityFile: /run/secrets/age.key
instances:
  shared:
    url: postgresql://postgres@postgresql-shared.databases:5432/postgres?sslmode=prefer
    passwordFrom: { env: SHARED_PASSWORD }
    databases: { exclude: [scratch] }
    schedule: { logical: "0 2 * * *", base: "30 1 * * 0" }
    retention:
      logical: { keepLast: 3, keepDaily: 7, keepWeekly: 4, keepMonthly: 6 }
      base: { window: 14d, keepLast: 2 }
    objectives: { rpo: 1h, rto: 30m }
  postgresql-litellm:
    url: postgresql://postgres@postgresql-litellm.databases:5432/postgres
    passwordFrom: { secret: { namespace: databases, name: postgresql-litellm, key: postgres-password } }
applications:
  litellm:
    database: litellm
    instance: shared
    dedicated: postgresql-litellm
    switch:
      secret: { namespace: litellm, name: litellm-db, keys: { url: DATABASE_URL } }
      pgbouncer: { admin: "postgresql://pgbouncer@127.0.0.1:6432/pgbouncer", databases: [litellm], configFile: /etc/pgbouncer/pgbouncer.ini }
      haproxy: { socket: /run/haproxy/admin.sock, backend: postgres, server: pg }
      envFile: { path: /etc/litellm/app.env, keys: { url: DATABASE_URL } }
      command: [/usr/local/bin/switch-litellm]
`;

test("the whole file of the contract loads", async () => {
  const { config } = await configOf({ files: { "pgkit.yaml": whole } });
  expect(config.repositories).toMatchObject([
    {
      url: "s3://my-pg-backup/prod",
      storage: {
        endpoint: "https://rgw.example:7480",
        region: "us-east-1",
        pathStyle: true,
        caFile: "/etc/pgkit/ca.crt",
      },
      encryption: { recipients: [recipient], identityFile: "/run/secrets/age.key" },
    },
  ]);
  expect(config.instances["shared"]).toEqual({
    name: "shared",
    url: "postgresql://postgres@postgresql-shared.databases:5432/postgres?sslmode=prefer",
    passwordFrom: { type: "env", variable: "SHARED_PASSWORD" },
    kubernetes: {},
    databases: { exclude: ["scratch"] },
    connections: 4,
    jobs: 2,
    wholeBelowBytes: instanceOptions.wholeBelow.default,
    countRows: true,
    schedule: { logical: "0 2 * * *", base: "30 1 * * 0", timeZone: "UTC", graceMs: 3_600_000 },
    retention: {
      logical: { keepLast: 3, keepDaily: 7, keepWeekly: 4, keepMonthly: 6 },
      base: { keepLast: 2, windowMs: 14 * 86_400_000 },
    },
    objectives: { rpoMs: 3_600_000, rtoMs: 1_800_000 },
    base: { engine: "protocol", standby: undefined, checkpoint: "fast", maxRate: undefined, level: 1, workers: 2 },
    archive: {
      ...{ method: "stream", timeoutMs: 60_000, command: undefined, spool: "pg_wal/pgkit", parallel: 4 },
      ...{ slot: "pgkit_shared", streamFolder: undefined, flushEveryMs: 5000, onFull: "alert" },
      ...{ warnBytes: 1024 ** 3, alertBytes: 8 * 1024 ** 3, warnAfterMs: 300_000, alertAfterMs: 900_000 },
    },
  });
  expect(config.instances["postgresql-litellm"]?.passwordFrom).toEqual({
    type: "secret",
    secret: { namespace: "databases", name: "postgresql-litellm", key: "postgres-password" },
  });
  expect(config.applications["litellm"]).toEqual({
    name: "litellm",
    database: "litellm",
    instance: "shared",
    dedicated: "postgresql-litellm",
    switch: {
      secret: { namespace: "litellm", name: "litellm-db", keys: { url: "DATABASE_URL" }, rolloutMs: 300_000 },
      pgbouncer: {
        admin: "postgresql://pgbouncer@127.0.0.1:6432/pgbouncer",
        databases: ["litellm"],
        configFile: "/etc/pgbouncer/pgbouncer.ini",
      },
      haproxy: { socket: "/run/haproxy/admin.sock", backend: "postgres", server: "pg" },
      envFile: { path: "/etc/litellm/app.env", keys: { url: "DATABASE_URL" } },
      command: ["/usr/local/bin/switch-litellm"],
    },
  });
});

test("without a file PG* gives the instance and the user's data folder the repository", async () => {
  const env = { PGHOST: "db.example", PGPORT: "5433", PGUSER: "me", PGDATABASE: "my db", PGSSLMODE: "require" };
  const { config } = await configOf({ env: { ...env, XDG_DATA_HOME: "/data" } });
  expect(config.file).toBeUndefined();
  expect(Object.keys(config.instances)).toEqual(["default"]);
  const url = new URL(config.instances["default"]?.url ?? "");
  expect(decodeURIComponent(url.pathname)).toBe("/my db");
  expect(Object.fromEntries(url.searchParams)).toEqual({
    host: "db.example",
    port: "5433",
    user: "me",
    sslmode: "require",
  });
  expect(config.repositories.map((repository) => repository.url)).toEqual(["file:///data/pgkit/repository"]);
});

test("a flag wins over a variable, a variable over the file, the file over the default", async () => {
  const files = { "pgkit.yaml": "repository: file:///from-file\ncompression: { level: 9 }\ntimeZone: Europe/Paris\n" };
  const env = { PGKIT_REPOSITORY: "file:///from-variable", PGKIT_COMPRESSION_LEVEL: "7" };
  const urls = (config: Pick<Config, "repositories">) => config.repositories.map((repository) => repository.url);

  expect(urls((await configOf({ files, env }, "--repository", "file:///from-flag")).config)).toEqual([
    "file:///from-flag",
  ]);
  const { config } = await configOf({ files, env });
  expect(urls(config)).toEqual(["file:///from-variable"]);
  expect(config.compression).toEqual({ level: 7, threads: 2 });
  expect(config.timeZone).toBe("Europe/Paris");
  expect(urls((await configOf({ files })).config)).toEqual(["file:///from-file"]);
});

test("--config wins over PGKIT_CONFIG, which wins over ./pgkit.yaml; a named file that is not there is an error", async () => {
  const files = {
    "flag.yaml": "repository: file:///flag",
    "variable.yaml": "repository: file:///variable",
    "pgkit.yaml": "repository: file:///here",
  };
  const env = { PGKIT_CONFIG: "variable.yaml" };
  const flagged = await configOf({ files, env }, "--config", "flag.yaml");
  expect(flagged.config.repositories[0]?.url).toBe("file:///flag");
  expect((await configOf({ files, env })).config.repositories[0]?.url).toBe("file:///variable");
  expect((await configOf({ files })).config.repositories[0]?.url).toBe("file:///here");
  const missing = await run(["print-config"], { env: { PGKIT_CONFIG: "gone.yaml" }, commands: [printConfig] });
  expect(missing).toMatchObject({
    status: 2,
    stderr: "pgkit: there is no file gone.yaml\nhint: PGKIT_CONFIG names it\n",
  });
});

test("relative paths of the file are relative to its folder", async () => {
  const files = { "etc/pgkit.yaml": "encryption: { identityFile: keys/age.key }\nrepository: ./backups" };
  const { config, folder } = await configOf({ files }, "--config", "etc/pgkit.yaml");
  expect(config.repositories[0]?.encryption.identityFile).toBe(`${folder}/etc/keys/age.key`);
  expect(config.repositories[0]?.url).toBe(`file://${folder}/etc/backups`);
});

test("several repositories keep their own storage, and share the top's where they have none", async () => {
  const yaml = `
storage: { region: eu-central-1 }
encryption: { recipients: [${recipient}] }
repositories:
  - { url: "s3://one/x", name: one }
  - url: azure://account/container/y
    storage: { caFile: /ca }
    encryption: { recipients: [] }
`;
  const { config } = await configOf({ files: { "pgkit.yaml": yaml } });
  expect(config.repositories).toMatchObject([
    { name: "one", url: "s3://one/x", storage: { region: "eu-central-1" }, encryption: { recipients: [recipient] } },
    { name: "repository-2", url: "azure://account/container/y", encryption: { recipients: [] } },
  ]);
  expect(config.repositories[1]?.storage).toEqual({ caFile: "/ca" });
  const chosen = await configOf({ files: { "pgkit.yaml": yaml } }, "--repository", "one");
  expect(chosen.config.repositories.map((repository) => repository.name)).toEqual(["one"]);
});

test("YAML's anchors, aliases and quotes work as elsewhere, and numbers may be names", async () => {
  const yaml = `
instances:
  a: { url: "postgresql://u@a/d", retention: { logical: &keep { keepLast: 3 } }, databases: { exclude: [2024, 'x y'] } }
  b: { url: "postgresql://u@b/d", retention: { logical: *keep } }
`;
  const { config } = await configOf({ files: { "pgkit.yaml": yaml } });
  expect(config.instances["a"]?.databases.exclude).toEqual(["2024", "x y"]);
  expect(config.instances["b"]?.retention.logical).toEqual({ keepLast: 3 });
});

test.each([
  ["repositry: file:///x", "pgkit.yaml:1:1: unknown key 'repositry'", "did you mean 'repository'?"],
  ["storage:\n  path_style: true", "pgkit.yaml:2:3: unknown key 'path_style' in storage", "did you mean 'pathStyle'?"],
  [
    "instances:\n  a:\n    url: postgresql://u@h/d\n    retention:\n      logical: { keepDayly: 3 }",
    "pgkit.yaml:5:18: unknown key 'keepDayly' in instances.a.retention.logical",
    "did you mean 'keepDaily'?",
  ],
  ["zzzz: 1", "pgkit.yaml:1:1: unknown key 'zzzz'", "known here: "],
])("an unknown key names the place and the nearest known one: %s", async (yaml, message, hint) => {
  const { status, stderr } = await refusal(yaml);
  expect(status).toBe(2);
  expect(stderr).toContain(`pgkit: ${message}\nhint: ${hint}`);
});

const instance = (rest: string) => `instances:\n  a:\n    url: postgresql://u@h/d\n    ${rest}`;

test.each([
  [
    instance("connections: many"),
    "pgkit.yaml:4:18: instances.a.connections must be a whole number, from 1 to 1000, not 'many'",
  ],
  [
    instance("objectives: { rpo: 1 hour }"),
    "pgkit.yaml:4:24: instances.a.objectives.rpo must be a duration such as 14d, 1h30m or 90s, not '1 hour'",
  ],
  [instance("schedule: { logical: 0 25 * * * }"), "0-23"],
  [instance("retention: 7d"), "pgkit.yaml:4:16: instances.a.retention must be a map with the keys logical, base"],
  [instance("databases: { exclude: { x: 1 } }"), "instances.a.databases.exclude must be a list"],
  [instance("passwordFrom: { env: A, file: b }"), "instances.a.passwordFrom must have one of env, file and secret"],
  [instance("passwordFrom: { secret: { name: x } }"), "passwordFrom.secret must have namespace, name and key"],
  ["instances: { a: }", "instances.a has no url"],
  ["instances: { 'a b': { url: 'postgresql://u@h/d' } }", "an instance must have a name"],
  ["instances: { a: { url: 'mysql://u@h/d' } }", "instances.a.url cannot be used"],
  ["repository: ftp://x/y", "repository must be s3://BUCKET/PREFIX"],
  ["repository: a\nrepositories: [{ url: b }]", "both repository and repositories"],
  ["repositories: [{ name: x }]", "pgkit.yaml:1:16: a repository must have a url"],
  [
    "applications: { x: { instance: shard } }\ninstances: { shared: { url: 'postgresql://u@h/d' } }",
    "did you mean 'shared'?",
  ],
  [
    "applications: { x: { instance: s, switch: { haproxy: { socket: /x } } } }\ninstances: { s: { url: 'postgresql://u@h/d' } }",
    "applications.x.switch.haproxy.backend is missing",
  ],
  ["a: [1, 2", "pgkit.yaml:1:9: this cannot be read as YAML"],
  ["timeZone: Mars/Olympus", "timeZone must be a time zone such as UTC or Europe/Berlin, not 'Mars/Olympus'"],
  ["- x", "the file must be a map"],
  ["timeZone:", "pgkit.yaml:1:10: timeZone must be a time zone such as UTC or Europe/Berlin, not ''"],
  ["a: 1\n---\nb: 2", "this cannot be read as YAML"],
  ["timeZone: UTC\ntimeZone: UTC", "pgkit.yaml:2:1: this cannot be read as YAML: Map keys must be unique"],
])("a wrong value says which, where and what is allowed: %s", async (yaml, message) => {
  const { status, stderr } = await refusal(yaml);
  expect(status).toBe(2);
  expect(stderr).toContain(message);
});

test("all problems of a file are told at once", async () => {
  const { stderr } = await refusal("repositry: x\ncompression: { level: 99 }\n");
  expect(stderr).toContain("the configuration has 2 problems:");
  expect(stderr).toContain("pgkit.yaml:1:1: unknown key 'repositry'");
  expect(stderr).toContain("pgkit.yaml:2:23: compression.level must be a whole number, from 1 to 19, not '99'");
});

test("a wrong flag or variable is named", async () => {
  const flag = await run(["print-config", "--time-zone", "Mars"], { commands: [printConfig] });
  expect(flag).toMatchObject({ status: 2 });
  expect(flag.stderr).toContain("--time-zone must be a time zone such as UTC or Europe/Berlin, not 'Mars'");
  const variable = await run(["print-config"], { env: { PGKIT_LEASE_TTL: "soon" }, commands: [printConfig] });
  expect(variable.stderr).toContain("PGKIT_LEASE_TTL must be a duration of 12s or more, such as 2m, not 'soon'");
});

test("a misspelled variable is an error, one that Kubernetes or a password reference makes is not", async () => {
  const wrong = await run(["print-config"], { env: { PGKIT_REPOSITRY: "file:///x" }, commands: [printConfig] });
  expect(wrong).toMatchObject({
    status: 2,
    stderr: "pgkit: unknown variable PGKIT_REPOSITRY\nhint: did you mean PGKIT_REPOSITORY?\n",
  });
  const files = { "pgkit.yaml": instance("passwordFrom: { env: PGKIT_INSTANCES }") };
  const env = { PGKIT_SERVICE_HOST: "10.0.0.1", PGKIT_PORT: "tcp://10.0.0.1:80", PGKIT_INSTANCES: "secret" };
  await configOf({ files, env });
});

test("a command that needs no configuration works with a broken one", async () => {
  const ran = await run(["completion", "bash"], { files: { "pgkit.yaml": "]" }, env: { PGKIT_REPOSITRY: "x" } });
  expect(ran.status).toBe(0);
});

test("an instance that is not there is refused, naming those there are", async () => {
  const files = {
    "pgkit.yaml": "instances: { shared: { url: 'postgresql://u@h/d' }, other: { url: 'postgresql://u@h/d' } }",
  };
  const command = testCommand(async (context) => {
    context.out.raw(context.instance().name);
    return 0;
  });
  const wrong = await run(["try", "--instance", "shard"], { files, commands: [command] });
  expect(wrong.status).toBe(2);
  expect(wrong.stderr).toContain("there is no instance 'shard'");
  expect(wrong.stderr).toContain("did you mean 'shared'? there are: shared, other");
  const ambiguous = await run(["try"], { files, commands: [command] });
  expect(ambiguous).toMatchObject({ status: 2 });
  expect(ambiguous.stderr).toContain("say which one by --instance\nhint: there are: shared, other");
  const chosen = await run(["try"], { files, env: { PGKIT_INSTANCE: "other" }, commands: [command] });
  expect(chosen.stdout).toBe("other\n");
});
