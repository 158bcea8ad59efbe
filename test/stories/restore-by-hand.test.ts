import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { GetObjectCommand } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../../src/lib/time.ts";
import { run } from "../cli/run.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { type S3Server, startS3 } from "../support/s3.ts";
import { bash, consoleBlock, contentOf, scriptOf } from "./by-hand.ts";

const exec = promisify(execFile);
const database = `we"ird-Ä`;
/** The same name to a key of the repository, which cannot hold a quote of either kind. */
const lookalike = `we'ird-Ä`;

let source: Cluster;
let target: Cluster;
let folder = "";
let recipient = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pgkit-by-hand-"));
  [source, target] = await Promise.all([startCluster(), startCluster()]);
  await exec("age-keygen", ["-o", join(folder, "identity.txt")]);
  recipient = (await exec("age-keygen", ["-y", join(folder, "identity.txt")])).stdout.trim();
  for (const name of [database, lookalike]) await source.psql(`CREATE DATABASE "${name.replaceAll('"', '""')}"`);
  await source.psql(application, database);
});

afterAll(async () => {
  await source?.[Symbol.asyncDispose]();
  await target?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

const application = `
  CREATE ROLE "we owner" LOGIN PASSWORD 'secret' CONNECTION LIMIT 7;
  CREATE ROLE reader; GRANT reader TO "we owner";
  ALTER DATABASE "we""ird-Ä" OWNER TO "we owner";
  ALTER DATABASE "we""ird-Ä" SET work_mem TO '7MB';
  REVOKE CONNECT ON DATABASE "we""ird-Ä" FROM PUBLIC;
  SET ROLE "we owner";
  CREATE SCHEMA "it's";
  CREATE TABLE "it's"."a ""table""" (id int PRIMARY KEY, name text NOT NULL, note jsonb);
  INSERT INTO "it's"."a ""table""" SELECT i, md5(i::text), json_build_object('i', i) FROM generate_series(1, 20000) i;
  CREATE TABLE "it's".spends (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    of int REFERENCES "it's"."a ""table""", amount numeric, at timestamptz DEFAULT now());
  INSERT INTO "it's".spends (of, amount) SELECT 1 + i % 20000, i / 7.0 FROM generate_series(1, 30000) i;
  CREATE TABLE "it's".empty (); CREATE INDEX ON "it's".spends (of, at);
  CREATE VIEW "it's".totals AS SELECT of, sum(amount) FROM "it's".spends GROUP BY of;
  GRANT SELECT ON "it's".totals TO reader; COMMENT ON TABLE "it's".spends IS 'who spent what';
`;

interface Repository {
  url: string;
  yaml: string;
  env?: Record<string, string>;
}

/** Two backups of the database, the older one of fewer rows, and a newer one of another whose name looks alike. */
async function backUp({ url, yaml }: Repository): Promise<void> {
  const files = { "pgkit.yaml": `repository: ${url}\ninstances:\n  shared:\n    url: ${source.url()}\n${yaml}` };
  const hour = 3_600_000;
  for (const [name, ageMs] of [
    [database, 2 * hour],
    [database, hour],
    [lookalike, 0],
  ] as const) {
    const clock = { ...systemClock, now: () => new Date(Date.now() - ageMs) };
    const made = await run(["backup", "logical", name, "--quiet"], { files, clock });
    expect(made, made.stderr).toMatchObject({ status: 0 });
    if (ageMs > hour) await source.psql(`INSERT INTO "it's".spends (of, amount) VALUES (1, ${ageMs})`, database);
  }
}

async function aboutDatabase(cluster: Cluster, name: string): Promise<string> {
  return cluster.psql(
    `SELECT pg_get_userbyid(datdba), datacl, datcollate, (SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = d.oid),
       (SELECT array_agg((rolname, rolconnlimit, rolpassword)::text ORDER BY rolname) FROM pg_authid WHERE rolname ~ '^(we|reader)')
     FROM pg_database d WHERE datname = current_database()`,
    name,
  );
}

async function expectRestored(name: string): Promise<void> {
  expect(await contentOf(target, name)).toBe(await contentOf(source, database));
  expect(await aboutDatabase(target, name)).toBe(await aboutDatabase(source, database));
}

const parts = `    wholeBelow: 1KiB\n    jobs: 2\nstorage: { volumeSize: 64KiB`;

describe("by RESTORE.md alone, from a folder", () => {
  const newNames = { "one archive": `new "one"'s \\ x`, "parts in volumes": "dbname=parts" };

  it.each([
    ["one archive", false],
    ["one archive", true],
    ["parts in volumes", false],
    ["parts in volumes", true],
  ] as const)("the newest backup of a database comes back: %s, encrypted %s", async (form, encrypted) => {
    const place = join(folder, `${form.replaceAll(" ", "-")}-${encrypted}`);
    const encryption = encrypted ? `encryption: { recipients: [${recipient}] }\n` : "";
    const yaml = form === "one archive" ? "" : `${parts} }\n`;
    await backUp({ url: place, yaml: `${yaml}${encryption}` });
    const stored = (await readdir(join(place, "files"), { recursive: true })).filter((path) => /\.\w+$/.test(path));
    expect(stored.some((path) => path.endsWith(".volume0002"))).toBe(form !== "one archive");
    expect(stored.some((path) => path.includes("schema.dump"))).toBe(form !== "one archive");
    expect(stored.some((path) => path.includes(".age"))).toBe(encrypted);

    const guide = await readFile(join(place, "RESTORE.md"), "utf8");
    const NEW_NAME = `${newNames[form]} ${encrypted}`;
    const WORK = join(folder, `work-${form}-${encrypted}`);
    const IDENTITY = encrypted ? join(folder, "identity.txt") : "/nowhere";
    const restore = await scriptOf(
      guide,
      { REPO: place, DATABASE: database, NEW_NAME, WORK, IDENTITY },
      { folder, target },
    );
    const { stdout } = await bash(["-x", restore], { folder, target });
    expect(stdout).toMatch(/^restored we"ird-Ä of we_ird-_-\S+ as new|^restored we"ird-Ä of \S+ as dbname=/m);
    await expectRestored(NEW_NAME);
  });

  it("jq names the same backup, and shows the others", async () => {
    const place = join(folder, "jq");
    await backUp({ url: place, yaml: "" });
    const guide = await readFile(join(place, "RESTORE.md"), "utf8");
    const commands = consoleBlock(guide, "jq").replace('"litellm"', JSON.stringify(database));
    const { stdout } = await bash(["-c", commands], { folder, target }, { cwd: place });
    const lines = stdout.trim().split("\n");
    expect(lines).toHaveLength(4);
    expect(lines[1]).toContain(`\t${database}\t${lines[3]}\t${source.programs.version}`);
  });

  it("a flipped bit ends it before anything is created", async () => {
    const place = join(folder, "flipped");
    await backUp({ url: place, yaml: "" });
    const archives = (await readdir(join(place, "files"), { recursive: true })).filter((path) => /archive/.test(path));
    for (const path of archives) await flipBit(join(place, "files", path));
    const edits = { REPO: place, DATABASE: database, NEW_NAME: "flipped", WORK: join(folder, "work-flipped") };
    const restore = await scriptOf(await readFile(join(place, "RESTORE.md"), "utf8"), edits, { folder, target });
    await expect(bash([restore], { folder, target })).rejects.toMatchObject({
      stdout: expect.stringMatching(/archive\.dump\S*: FAILED/),
    });
    expect(await target.psql("SELECT count(*) FROM pg_database WHERE datname = 'flipped'")).toBe("0");
  });

  it("a backup that says other row counts than it holds is told apart; one that is not there, too", async () => {
    const place = join(folder, "counts");
    await backUp({ url: place, yaml: "" });
    const manifests = join(place, "backups", "shared");
    for (const name of await readdir(manifests)) {
      const text = await readFile(join(manifests, name), "utf8");
      await writeFile(join(manifests, name), text.replace('"rows": 20000', '"rows": 20001'));
    }
    const guide = await readFile(join(place, "RESTORE.md"), "utf8");
    const edits = { REPO: place, DATABASE: database, NEW_NAME: "counts", WORK: join(folder, "work-counts") };
    const wrong = bash([await scriptOf(guide, edits, { folder, target })], { folder, target });
    await expect(wrong).rejects.toMatchObject({ stdout: expect.stringContaining(`it's.a "table"|20000|20001`) });
    const absent = { ...edits, DATABASE: "litellm", WORK: join(folder, "work-missing") };
    const missing = bash([await scriptOf(guide, absent, { folder, target })], { folder, target });
    await expect(missing).rejects.toMatchObject({
      stdout: expect.stringContaining("there is no backup of litellm in"),
    });
  });
});

describe("by RESTORE.md alone, from S3 with the aws command", () => {
  it.each([
    ["one archive", ""],
    ["parts in volumes, encrypted", parts],
  ])("the newest backup of a database comes back: %s", async (form, own) => {
    const server = await startS3("old");
    const Bucket = await server.newBucket();
    const inParts = own !== "";
    const storage = `${inParts ? `${own}, ` : "storage: { "}${storageOf(server)} }\n`;
    const encryption = inParts ? `encryption: { recipients: [${recipient}] }\n` : "";
    await backUp({ url: `s3://${Bucket}/some/prefix`, yaml: `${storage}${encryption}` });
    const guide = await server.client.send(new GetObjectCommand({ Bucket, Key: "some/prefix/RESTORE.md" }));
    const NEW_NAME = `from s3: ${form}`;
    const edits = {
      ...{ REPO: `s3://${Bucket}/some/prefix`, ENDPOINT: server.endpoint, DATABASE: database, NEW_NAME },
      ...{ WORK: join(folder, `work-s3-${inParts}`), IDENTITY: join(folder, "identity.txt") },
    };
    const restore = await scriptOf((await guide.Body?.transformToString()) ?? "", edits, { folder, target });
    const { accessKeyId: AWS_ACCESS_KEY_ID, secretAccessKey: AWS_SECRET_ACCESS_KEY, region } = server;
    const env = { AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION: region };
    await bash([restore], { folder, target }, { env });
    await expectRestored(NEW_NAME);
  });
});

function storageOf({ endpoint, region, accessKeyId, secretAccessKey }: S3Server): string {
  return `endpoint: "${endpoint}", region: ${region}, accessKeyId: ${accessKeyId}, secretAccessKey: "${secretAccessKey}"`;
}

async function flipBit(path: string): Promise<void> {
  const bytes = await readFile(path);
  const middle = bytes.length >> 1;
  bytes.writeUInt8(bytes.readUInt8(middle) ^ 1, middle);
  await writeFile(path, bytes);
}
