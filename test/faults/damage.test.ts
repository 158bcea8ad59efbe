import { cp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { generateIdentity, identityToRecipient } from "age-encryption";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { run } from "../cli/run.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { configured, databasesOf, expectRefusal, filesIn, makeDatabase, newFolder, succeed } from "./support.ts";

let cluster: Cluster;
const identity = await generateIdentity();
const recipient = await identityToRecipient(identity);
/** Two repositories with one backup each; tests work on copies. */
const made = { plain: "", encrypted: "" };
const ids = { plain: "", encrypted: "" };
type Kind = keyof typeof made;

beforeAll(async () => {
  cluster = await startCluster();
  await makeDatabase(cluster, "app", 3000);
  for (const kind of ["plain", "encrypted"] as const) {
    made[kind] = await newFolder();
    const { backups } = (await succeed(["backup", "logical", "app"], options(kind, made[kind]))) as {
      backups: { id: string }[];
    };
    ids[kind] = backups[0]?.id ?? "";
  }
});

afterAll(async () => {
  expect(await databasesOf(cluster)).toEqual(["app", "postgres"]);
  await cluster[Symbol.asyncDispose]();
});

/** The text of the identity file; none is configured with `null`. */
type Keys = string | null;

function options(kind: Kind, repository: string, keys: Keys = identity): { files: Record<string, string> } {
  const encryption = { recipients: [recipient], ...(keys === null ? {} : { identityFile: "age.key" }) };
  const files = configured({ repository, url: cluster.url(), ...(kind === "plain" ? {} : { encryption }) });
  return { files: { ...files, ...(keys === null ? {} : { "age.key": `# a comment\n${keys}\n` }) } };
}

/** A copy of the repository, and the paths in it that a test damages. */
async function copyOf(kind: Kind): Promise<{ folder: string; manifest: string; archive: string }> {
  const folder = await newFolder();
  await cp(made[kind], folder, { recursive: true, preserveTimestamps: true });
  const name = (await filesIn(folder)).find((path) => path.includes("/archive.dump")) ?? "";
  const manifest = join(folder, "backups", "shared", `${ids[kind]}.json`);
  return { folder, manifest, archive: join(folder, name) };
}

/** Verify names what is damaged (exit 40) and restore refuses with `code`; neither changes the server or the repository. */
async function expectDamage(kind: Kind, folder: string, { status = 40, code = "object-corrupt", names }: Damage) {
  const before = [await databasesOf(cluster), await backupsIn(folder)];
  const verified = await run(["verify", "--json"], options(kind, folder));
  expect(`${verified.status} ${verified.stderr}`).toMatch(/^40 /);
  const [result] = JSON.parse(verified.stdout).results;
  expect(result).toMatchObject({ id: ids[kind], ok: false });
  for (const name of names) expect(result.problems.join(" ")).toMatch(name);
  const hint = /./;
  await expectRefusal({
    args: ["restore", "app", "--as", "copy"],
    options: options(kind, folder),
    status,
    code,
    names,
    hint,
  });
  expect([await databasesOf(cluster), await backupsIn(folder)]).toEqual(before);
}

interface Damage {
  status?: number;
  code?: string;
  names: readonly (string | RegExp)[];
}

async function backupsIn(folder: string): Promise<string[]> {
  return (await filesIn(folder)).filter((path) => /^(backups|files)\//.test(path));
}

async function flip(path: string, at: (bytes: number) => number): Promise<void> {
  const content = await readFile(path);
  const position = at(content.length);
  content[position] = (content[position] ?? 0) ^ 0x10;
  await writeFile(path, content);
}

describe("no repository there", () => {
  test.each([
    ["list"],
    ["verify"],
    ["show", "app-1"],
    ["restore", "app"],
    ["prune", "--yes"],
    ["keep", "app-1", "--forever"],
  ])("%s %s: exit 10", async (...args) => {
    const folder = join(await newFolder(), "nothing");
    await expectRefusal({
      ...{ args, options: options("plain", folder), status: 10, code: "repository-missing" },
      ...{ names: [`file://${folder}`], hint: "is the URL right" },
    });
  });
});

describe("a manifest", () => {
  const inspect = (): string[][] => [
    ["show", ids.plain],
    ["restore", "app", "--as", "copy", "--backup", ids.plain],
  ];

  async function refuses(folder: string, wanted: { status: number; code: string; names: RegExp[]; hint: RegExp }) {
    for (const args of inspect()) await expectRefusal({ args, options: options("plain", folder), ...wanted });
    const listed = await run(["list", "--json"], options("plain", folder));
    expect(listed.status).toBe(wanted.status);
    expect(JSON.parse(listed.stdout)).toMatchObject({
      backups: [],
      unreadable: [{ id: ids.plain, code: wanted.code }],
    });
    await expectRefusal({ args: ["restore", "app", "--as", "copy"], options: options("plain", folder), ...wanted });
    const pruned = await run(["prune", "--yes", "--json"], options("plain", folder));
    expect(pruned.status).toBe(0);
    expect(await backupsIn(folder)).toEqual(await backupsIn(made.plain));
  }

  test("that was truncated", async () => {
    const { folder, manifest } = await copyOf("plain");
    await truncate(manifest, 500);
    await refuses(folder, {
      status: 40,
      code: "manifest-corrupt",
      names: [/not JSON/, new RegExp(ids.plain)],
      hint: /./,
    });
  });

  test("that is empty, as after a power cut", async () => {
    const { folder, manifest } = await copyOf("plain");
    await truncate(manifest, 0);
    await refuses(folder, { status: 40, code: "manifest-corrupt", names: [/not JSON/], hint: /./ });
  });

  test("that is JSON of another kind", async () => {
    const { folder, manifest } = await copyOf("plain");
    await writeFile(manifest, '{"format": 1}');
    await refuses(folder, { status: 40, code: "manifest-corrupt", names: [/is not a manifest/], hint: /./ });
  });

  test("of a future format", async () => {
    const { folder, manifest } = await copyOf("plain");
    await writeFile(manifest, (await readFile(manifest, "utf8")).replace('"format": 1', '"format": 7'));
    await refuses(folder, { status: 2, code: "format-unsupported", names: [/format 7/, /up to 1/], hint: /newer/ });
  });

  test("of another repository", async () => {
    const { folder, manifest } = await copyOf("plain");
    await writeFile(
      manifest,
      (await readFile(manifest, "utf8")).replace(/"repository": "[^"]+"/, '"repository": "other-id"'),
    );
    await refuses(folder, { status: 40, code: "manifest-corrupt", names: [/./], hint: /other-id/ });
  });
});

test("a newer backup that cannot be read is not passed over in silence for an older one", async () => {
  const { folder, manifest } = await copyOf("plain");
  await truncate(manifest, 100);
  const older = manifest.replace(/-\d{8}T\d{6}Z-/, "-20200101T000000Z-");
  const id = older.replace(/.*\/|\.json$/g, "");
  const text = (await readFile(join(made.plain, "backups", "shared", `${ids.plain}.json`), "utf8"))
    .replace(ids.plain, id)
    .replaceAll(/"(startedAt|finishedAt)": "[^"]+"/g, '"$1": "2020-01-01T00:00:00Z"');
  await writeFile(older, text);
  await expectRefusal({
    ...{ args: ["restore", "app", "--as", "copy"], options: options("plain", folder) },
    ...{ status: 40, code: "manifest-corrupt", names: [ids.plain], hint: `--backup ${id}` },
  });
  await succeed(["restore", "app", "--as", "copy", "--backup", id, "--dry-run"], options("plain", folder));
});

describe("the repository's own file", () => {
  test.each([
    ["cut", '{"form', 40, "manifest-corrupt"],
    ["of a future format", '{"format": 9, "id": "x", "createdAt": "2026-01-01T00:00:00Z"}', 2, "format-unsupported"],
  ])("%s", async (_, text, status, code) => {
    const { folder } = await copyOf("plain");
    await writeFile(join(folder, "pgkit.json"), text);
    for (const args of [
      ["list"],
      ["backup", "logical", "app"],
      ["restore", "app", "--as", "copy"],
      ["prune", "--yes"],
    ]) {
      await expectRefusal({
        args,
        options: options("plain", folder),
        status,
        code,
        names: [`file://${folder}`],
        hint: /./,
      });
    }
    expect(await backupsIn(folder)).toEqual(await backupsIn(made.plain));
  });
});

describe.each(["plain", "encrypted"] as const)("a stored file, %s", (kind) => {
  test("that is missing", async () => {
    const { folder, archive } = await copyOf(kind);
    await rm(archive);
    await expectDamage(kind, folder, { status: 10, code: "object-missing", names: [/archive\.dump/] });
  });

  test.each(["roles", "database", "settings"])("of SQL that is missing: %s", async (role) => {
    const { folder } = await copyOf(kind);
    const name = (await filesIn(folder)).find((path) => path.includes(`/${role}.sql`)) ?? "";
    await rm(join(folder, name));
    await expectDamage(kind, folder, { status: 10, code: "object-missing", names: [new RegExp(`${role}\\.sql`)] });
  });

  test.each([0, 1, 100, -1])("that was truncated to %s bytes", async (bytes) => {
    const { folder, archive } = await copyOf(kind);
    const whole = (await readFile(archive)).length;
    await truncate(archive, bytes < 0 ? whole + bytes : bytes);
    await expectDamage(kind, folder, { names: [/archive\.dump/] });
  });

  test("that has grown", async () => {
    const { folder, archive } = await copyOf(kind);
    await writeFile(archive, Buffer.concat([await readFile(archive), Buffer.from("more")]));
    await expectDamage(kind, folder, { names: [/archive\.dump/] });
  });

  // In the magic, in zstd's or age's header, within its MAC, at the payload's begin, in its middle and at its end.
  test.each([
    ["the first byte", () => 0],
    ["byte 5", () => 5],
    ["byte 60", () => 60],
    ["byte 150", () => 150],
    ["byte 250", () => 250],
    ["a third", (bytes: number) => Math.floor(bytes / 3)],
    ["the middle", (bytes: number) => Math.floor(bytes / 2)],
    ["the last byte but 20", (bytes: number) => bytes - 20],
    ["the last byte", (bytes: number) => bytes - 1],
  ])("of which one bit was flipped: %s", async (_, at) => {
    const { folder, archive } = await copyOf(kind);
    await flip(archive, at);
    await expectDamage(kind, folder, { names: [/archive\.dump/, /damaged/] });
  });

  test("of SQL of which one bit was flipped", async () => {
    const { folder } = await copyOf(kind);
    const name = (await filesIn(folder)).find((path) => path.includes("/database.sql")) ?? "";
    await flip(join(folder, name), (bytes) => Math.floor(bytes / 2));
    await expectDamage(kind, folder, { names: [/database\.sql/, /damaged/] });
  });
});

describe("an encrypted backup", () => {
  const restore = ["restore", "app", "--as", "copy"];

  test("with another identity: exit 12", async () => {
    const other = await generateIdentity();
    for (const args of [restore, ["verify"]]) {
      await expectRefusal({
        ...{ args, options: options("encrypted", made.encrypted, other), status: 12, code: "identity-wrong" },
        ...{ names: [/none of the 1 age identities opens .*\.age/], hint: "pgkit show" },
      });
    }
  });

  test("without an identity: exit 2, and verify checks what is stored", async () => {
    const { files } = options("encrypted", made.encrypted, null);
    await expectRefusal({
      ...{ args: restore, options: { files }, status: 2, code: "identity-required" },
      ...{ names: ["no age identity is configured"], hint: "encryption.identityFile" },
    });
    const verified = await run(["verify", "--json"], { files });
    expect(verified.status).toBe(0);
    expect(verified.stderr).toContain("checked as it is stored only");
    const { folder, archive } = await copyOf("encrypted");
    await flip(archive, (bytes) => bytes - 1);
    expect(await run(["verify"], options("encrypted", folder, null))).toMatchObject({ status: 40 });
  });

  test("with an identity file that is not there, or holds none: exit 2", async () => {
    const file = options("encrypted", made.encrypted).files["pgkit.yaml"] ?? "";
    await expectRefusal({
      ...{ args: restore, options: { files: { "pgkit.yaml": file } }, status: 2, code: "identity-required" },
      ...{ names: ["age.key", "ENOENT"], hint: "encryption.identityFile" },
    });
    await expectRefusal({
      ...{ args: restore, options: { files: { "pgkit.yaml": file, "age.key": "# empty\n" } }, status: 2 },
      ...{ code: "identity-required", names: ["age.key"], hint: "age-keygen" },
    });
    const broken = `${identity.slice(0, -4)}AAAA`;
    const refused = await run([...restore, "--json"], { files: { "pgkit.yaml": file, "age.key": broken } });
    expect(refused.status).toBe(2);
    expect(refused.stderr).not.toContain(broken.slice(20));
  });
});
