import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { run } from "../cli/run.ts";
import { configured, expectRefusal, filesIn, newFolder, type Refusal } from "./support.ts";

/** Nothing listens there, so that whatever gets past its words fails otherwise than it should. */
const url = "postgresql://postgres@127.0.0.1:1/postgres";

interface Wrong extends Omit<Refusal, "options"> {
  what: string;
  file?: Record<string, unknown>;
  text?: string;
  env?: Record<string, string>;
}

const usage = { status: 2, code: "usage" };
const config = { status: 2, code: "config" };
const backup = ["backup", "logical"];

const wrong: Wrong[] = [
  {
    ...{ what: "a command that does not exist", args: ["bakcup", "logical"], ...usage },
    ...{ names: ["bakcup"], hint: "did you mean backup" },
  },
  {
    ...{ what: "an instance that does not exist", args: [...backup, "--instance", "share"], ...usage },
    ...{ names: ["'share'", "pgkit.yaml"], hint: "did you mean 'shared'? there are: shared" },
  },
  {
    ...{ what: "a file that is not there", args: ["list", "--config", "no-such.yaml"], ...config },
    ...{ names: ["no-such.yaml"], hint: "--config" },
  },
  {
    ...{ what: "a key with a typo", args: backup, file: { instances: { shared: { url, shcedule: {} } } }, ...config },
    ...{ names: ["pgkit.yaml:1:", "shcedule"], hint: "did you mean 'schedule'" },
  },
  {
    ...{ what: "a variable with a typo", args: backup, env: { PGKIT_REPOSITROY: "/backups" }, ...config },
    ...{ names: ["PGKIT_REPOSITROY"], hint: "did you mean PGKIT_REPOSITORY" },
  },
  {
    ...{ what: "text for a number", args: backup, file: { instances: { shared: { url, jobs: "many" } } }, ...config },
    ...{ names: ["pgkit.yaml:1:", "instances.shared.jobs", "1", "64", "'many'"], hint: /./ },
  },
  {
    ...{ what: "a number out of range", args: ["restore", "app", "--jobs", "0"], ...usage },
    ...{ names: ["--jobs", "1", "64", "'0'"], hint: /./ },
  },
  {
    ...{ what: "text for a duration", args: backup, env: { PGKIT_LEASE_TTL: "soon" }, ...config },
    ...{ names: ["PGKIT_LEASE_TTL", "'soon'"], hint: /./ },
  },
  {
    ...{ what: "a map for a text", args: backup, file: { instances: { shared: { url: { host: "db" } } } }, ...config },
    ...{ names: ["pgkit.yaml:1:", "instances.shared.url"], hint: /./ },
  },
  {
    ...{ what: "a file that is not YAML", args: backup, text: "repository: [", ...config },
    ...{ names: ["pgkit.yaml:1:"], hint: /./ },
  },
  {
    ...{ what: "a cron line with six stars too few", args: ["schedule"], ...config },
    ...{ file: { instances: { shared: { url, schedule: { logical: "0 2" } } } } },
    ...{ names: ["pgkit.yaml:1:", "instances.shared.schedule.logical", "'0 2'"], hint: /./ },
  },
  {
    ...{ what: "a cron line with an hour that no day has", args: ["schedule"], ...config },
    ...{ file: { instances: { shared: { url, schedule: { logical: "0 25 * * *" } } } } },
    ...{ names: ["instances.shared.schedule.logical", "'0 25 * * *'"], hint: /./ },
  },
  {
    ...{ what: "a time zone that does not exist", args: ["list", "--time-zone", "Mars/Phobos"], ...usage },
    ...{ names: ["--time-zone", "'Mars/Phobos'"], hint: /./ },
  },
  {
    ...{ what: "a time that is none", args: ["keep", "b", "--until", "tomorrow"], ...usage },
    ...{ names: ["'tomorrow'", "2026-11-21T02:00:00Z"], hint: /./ },
  },
  {
    ...{ what: "a day that no calendar has", args: ["keep", "b", "--until", "2026-02-30"], ...usage },
    ...{ names: ["'2026-02-30'", "calendar"], hint: /./ },
  },
  {
    ...{ what: "a repository that is no URL", args: ["list", "--repository", "ftp://host/x"], ...config },
    ...{ names: ["--repository", "s3://BUCKET", "ftp://host/x"], hint: /./ },
  },
  {
    ...{ what: "a bucket without a name", args: ["list"], env: { PGKIT_REPOSITORY: "s3://" }, ...config },
    ...{ names: ["PGKIT_REPOSITORY"], hint: /./ },
  },
  {
    ...{ what: "a URL of another database", args: backup, file: { instances: { shared: { url: "mysql://u@h/d" } } } },
    ...{ ...config, names: ["pgkit.yaml:1:", "instances.shared.url"], hint: /./ },
  },
  {
    ...{ what: "an sslmode that libpq does not know", args: backup, ...config, hint: /./ },
    ...{ file: { instances: { shared: { url: `${url}?sslmode=maybe` } } }, names: ["sslmode=maybe", "verify-full"] },
  },
  {
    ...{ what: "a recipient that is no age key", args: backup, ...config, hint: /./ },
    ...{ file: { encryption: { recipients: ["age1nonsense"] } }, names: ["encryption.recipients", "age1nonsense"] },
  },
  {
    ...{ what: "a lease that is too short", args: backup, file: { lease: { ttl: "1s" } }, ...config },
    ...{ names: ["lease.ttl", "12s or more", "'1s'"], hint: /./ },
  },
  {
    ...{ what: "--as together with --replace", args: ["restore", "app", "--as", "b", "--replace"], ...usage },
    ...{ names: ["--as", "--replace"], hint: /./ },
  },
  {
    ...{ what: "a password in a variable that is not set", args: backup, ...config, hint: /./ },
    ...{ file: { instances: { shared: { url, passwordFrom: { env: "NO_SUCH_VARIABLE" } } } } },
    ...{ names: ["shared", "NO_SUCH_VARIABLE"] },
  },
  {
    ...{ what: "a password in a file that is not there", args: backup, ...config, hint: /./ },
    ...{ file: { instances: { shared: { url, passwordFrom: { file: "/no/such/password" } } } } },
    ...{ names: ["shared", "/no/such/password"] },
  },
];

test.each(wrong)("$what: exit 2", async ({ what: _, file, text, env, ...refusal }) => {
  const folder = await newFolder();
  const files =
    text === undefined ? configured({ repository: join(folder, "repository"), url, ...file }) : { "pgkit.yaml": text };
  await expectRefusal({ ...refusal, options: { files, ...(env === undefined ? {} : { env }) } });
  expect(await filesIn(folder)).toEqual([]);
});

test("a file with several mistakes names each in one run", async () => {
  const ran = await run(["list", "--json"], {
    files: configured({ repository: "/r", url, jobs: 2, timeZone: "Mars" }),
  });
  expect(ran.status).toBe(2);
  expect(ran.stderr).toContain("jobs");
  expect(ran.stderr).toContain("Mars");
});

test("a configuration that may not be read is no missing one", async () => {
  const folder = await newFolder();
  await writeFile(join(folder, "file"), "");
  const refusal = { args: ["list", "--config", join(folder, "file", "pgkit.yaml")], ...config };
  await expectRefusal({ ...refusal, names: [join(folder, "file", "pgkit.yaml")], hint: "--config" });
});
