import { cp, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { systemClock } from "../../src/lib/time.ts";
import { verifyBackup } from "../../src/prove/verify.ts";
import { listAudit } from "../../src/repo/audit.ts";
import { listBackups } from "../../src/repo/backups.ts";
import { readInventory } from "../../src/repo/inventory.ts";
import { latestTerm } from "../../src/repo/lease-term.ts";
import { formatManifest, parseManifest } from "../../src/repo/manifest.ts";
import { openRepository } from "../../src/repo/repository.ts";
import { fileStore } from "../../src/store/file.ts";
import { readOnlyStore } from "../../src/store/read-only.ts";
import { settings } from "./support.ts";

const fixtures = join(import.meta.dirname, "..", "..", "fixtures");
const manifests = join(fixtures, "repository-1", "backups", "shared");
const names = (await readdir(manifests)).sort();

/** What a repository of format 1 holds, in a copy, since a folder used as a store gets a folder of the store's own. */
async function golden() {
  const path = await mkdtemp(join(tmpdir(), "pgkit-golden-"));
  onTestFinished(() => rm(path, { recursive: true, force: true }));
  await cp(join(fixtures, "repository-1"), path, { recursive: true });
  const text = await readFile(join(fixtures, "repository-1.identity.txt"), "utf8");
  const identities = async () => text.split("\n").filter((line) => line.startsWith("AGE-SECRET-KEY-"));
  return openRepository(readOnlyStore(fileStore({ path })), { ...settings, identities });
}

it("the repository of format 1 is read: its backups, pin, lease and audit record", async () => {
  const repository = await golden();
  const { backups, unreadable, keeps, leftovers } = await readInventory(repository, { storeNow: new Date() });
  expect(unreadable).toEqual([]);
  expect(leftovers).toEqual([]);
  expect(backups.map(({ database, id }) => `${database} ${id}.json`)).toEqual(
    names.map((name) => `${name.split("-")[0]} ${name}`),
  );
  expect(keeps).toMatchObject([{ id: backups[0]?.id, record: { until: "2036-01-01T00:00:00Z", reason: "golden" } }]);
  expect(await latestTerm(repository.store, "backup-shared")).toMatchObject({ number: 4, record: { released: true } });
  const records: string[] = [];
  for await (const { command, result } of listAudit(repository)) records.push(`${command} ${result}`);
  expect(records).toEqual(["keep started", "keep ok"]);
});

it("every file of it is whole and decodes: a single archive that is encrypted, parts in several volumes", async () => {
  const repository = await golden();
  const { backups } = await listBackups(repository);
  expect(backups.map(({ files }) => Math.max(...files.map(({ volumes }) => volumes.length)))).toEqual([1, 3]);
  expect(backups.map(({ files }) => files.every(({ encoding }) => encoding.includes("age")))).toEqual([true, false]);
  for (const backup of backups) {
    const given = { repository, backup, deep: false, jobs: 1, clock: systemClock, report: () => undefined };
    const programsFor = () => Promise.reject(new Error("nothing is restored here"));
    expect(await verifyBackup({ ...given, programsFor, signal: new AbortController().signal })).toEqual([]);
  }
});

it.each(names)("the manifest %s is written again byte for byte", async (name) => {
  const bytes = await readFile(join(manifests, name));
  expect(Buffer.from(formatManifest(parseManifest(bytes.toString(), name))).toString()).toBe(bytes.toString());
});

it.each(names)("in the manifest %s, keys that this pgkit does not know are passed over everywhere", async (name) => {
  const text = await readFile(join(manifests, name), "utf8");
  const extended = JSON.parse(text, (_, value: unknown) => withUnknownKey(value));
  expect(Object.keys(extended.logical.tables[0])).toContain("fromTheFuture");
  expect(parseManifest(JSON.stringify(extended), name)).toEqual(parseManifest(text, name));
});

it.each(names)("the manifest %s is refused when its format is newer, and not taken for a damaged one", async (name) => {
  const text = await readFile(join(manifests, name), "utf8");
  const newer = text.replace('"format": 1,', '"format": 2,').replace('"files"', '"parts"');
  expect(() => parseManifest(newer, name)).toThrow(
    expect.objectContaining({ code: "format-unsupported", message: expect.stringContaining("is of format 2") }),
  );
});

function withUnknownKey(value: unknown): unknown {
  const isMap = typeof value === "object" && value !== null && !Array.isArray(value);
  return isMap ? { ...value, fromTheFuture: { list: [1] } } : value;
}
