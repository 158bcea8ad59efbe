import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";
import { collect } from "../../src/lib/streams.ts";
import { systemClock } from "../../src/lib/time.ts";
import { type AuditRecord, listAudit } from "../../src/repo/audit.ts";
import { listBackups } from "../../src/repo/backups.ts";
import { readKeeps } from "../../src/repo/keep.ts";
import { pruneLease, withLease } from "../../src/repo/lease.ts";
import type { Repository } from "../../src/repo/repository.ts";
import { fileStore } from "../../src/store/file.ts";
import { repositoryIn, storeBackup } from "../repo/support.ts";
import { run } from "./run.ts";

const config = (repositories: string) => `
${repositories}
instances:
  shared:
    url: postgresql://postgres@localhost/postgres
    retention: { logical: { keepLast: 1, keepMonthly: 2 } }
  other:
    url: postgresql://postgres@localhost/postgres
`;

async function folder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "pgkit-test-"));
  onTestFinished(async () => await rm(path, { recursive: true, force: true }));
  return path;
}

/** A repository with three backups of one database and one of another, and how to run pgkit on it. */
async function setUp() {
  const path = await folder();
  const repository = await repositoryIn(fileStore({ path }));
  for (const day of ["2026-10-30", "2026-11-01", "2026-11-02"]) {
    await storeBackup(repository, { id: `litellm-${day}`, startedAt: `${day}T02:00:00Z` });
  }
  await storeBackup(repository, { id: "n8n-1", instance: "other", database: "n8n" });
  const files = { "pgkit.yaml": config(`repository: ${pathToFileURL(path)}`) };
  const pgkit = (line: string, more: Parameters<typeof run>[1] = {}) => run(line.split(" "), { files, ...more });
  return { repository, pgkit };
}

async function idsIn(repository: Repository): Promise<string[]> {
  return (await listBackups(repository)).backups.map(({ id }) => id).sort();
}

const all = ["litellm-2026-10-30", "litellm-2026-11-01", "litellm-2026-11-02", "n8n-1"];
const kept = ["litellm-2026-10-30", "litellm-2026-11-02", "n8n-1"];

async function keysOf({ store }: Repository, id: string): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list(`files/shared/${id}/`)) keys.push(key);
  return keys;
}

async function auditOf(repository: Repository): Promise<AuditRecord[]> {
  const records: AuditRecord[] = [];
  for await (const record of listAudit(repository)) records.push(record);
  return records;
}

describe("pgkit prune", () => {
  it("takes no backup that verify found damaged for the last verified one, until verify finds it whole", async () => {
    const { repository, pgkit } = await setUp();
    const newest = "litellm-2026-11-02";
    const [key = ""] = await keysOf(repository, newest);
    const whole = await collect(await repository.store.get(key));
    await repository.store.put(key, Buffer.alloc(whole.length));
    const lastVerified = async () =>
      (await pgkit("prune --dry-run")).stdout
        .split("\n")
        .find((line) => line.includes("last verified backup of shared"));
    const listed = async () => {
      const { backups } = JSON.parse((await pgkit("list --json")).stdout);
      return backups.find(({ id }: { id: string }) => id === newest);
    };
    expect([await lastVerified(), (await listed()).verified]).toEqual([expect.stringContaining(newest), true]);
    expect((await pgkit(`verify ${newest}`)).status).toBe(40);
    expect(await lastVerified()).toMatch(/^keep .*litellm-2026-11-01/);
    expect(await listed()).toMatchObject({ verified: false, problems: [expect.stringContaining("litellm")] });
    expect((await pgkit("list")).stdout).toContain(`DAMAGED ${newest}: `);
    expect((await pgkit("prune --yes")).status).toBe(0);
    expect(await idsIn(repository)).toEqual(all);
    await repository.store.put(key, whole);
    expect((await pgkit(`verify ${newest}`)).status).toBe(0);
    expect([await lastVerified(), (await listed()).verified]).toEqual([expect.stringContaining(newest), true]);
    expect((await pgkit("prune --yes")).status).toBe(0);
    expect(await idsIn(repository)).toEqual(kept);
  });

  it("shows with --dry-run what would go and why the rest stays, and changes nothing", async () => {
    const { repository, pgkit } = await setUp();
    const { status, stdout } = await pgkit("prune --dry-run");
    expect(status).toBe(0);
    const line = (id: string) => stdout.split("\n").find((each) => each.includes(id));
    expect(line("litellm-2026-10-30")).toMatch(/^keep +shared +litellm +logical .* monthly 2026-10$/);
    expect(line("litellm-2026-11-01")).toMatch(/^remove /);
    expect(line("litellm-2026-11-02")).toMatch(/last 1, monthly 2026-11, last verified backup of shared\/litellm$/);
    expect(line("n8n-1")).toMatch(/no retention is configured/);
    expect(stdout).toContain("to remove: 1 backup (10 B)");
    expect(await idsIn(repository)).toEqual(all);
    expect(await auditOf(repository)).toEqual([]);
  });

  it("removes with --yes exactly what it showed, and records who did it", async () => {
    const { repository, pgkit } = await setUp();
    const { status, stdout } = await pgkit("prune --yes");
    expect(status).toBe(0);
    expect(stdout).toContain("removed 1 backup (10 B)");
    expect(await idsIn(repository)).toEqual(kept);
    expect(await auditOf(repository)).toMatchObject([
      { command: "prune", result: "started", details: { remove: ["shared/litellm-2026-11-01"] } },
      { command: "prune", result: "ok", details: { removed: ["shared/litellm-2026-11-01"] } },
    ]);
    const again = await pgkit("prune --yes");
    expect(again).toMatchObject({ status: 0, stdout: expect.stringContaining("nothing was removed") });
    expect(await auditOf(repository)).toHaveLength(2);
  });

  it("refuses without --yes where nobody can be asked, and does as told where somebody is", async () => {
    const { repository, pgkit } = await setUp();
    expect(await pgkit("prune")).toMatchObject({ status: 2, stderr: expect.stringContaining("--yes") });
    expect((await pgkit("prune", { isTTY: true, keys: "n" })).status).toBe(130);
    expect(await idsIn(repository)).toEqual(all);
    expect((await pgkit("prune", { isTTY: true, keys: "y" })).status).toBe(0);
    expect(await idsIn(repository)).toEqual(kept);
  });

  it("gives one JSON document", async () => {
    const { pgkit } = await setUp();
    const { stdout } = await pgkit("prune --yes --json");
    expect(JSON.parse(stdout)).toMatchObject({
      repositories: [
        {
          dryRun: false,
          keep: expect.arrayContaining([
            expect.objectContaining({
              id: "litellm-2026-11-02",
              instance: "shared",
              database: "litellm",
              storedBytes: 10,
            }),
          ]),
          remove: [{ id: "litellm-2026-11-01", kind: "logical" }],
          result: { removed: [{ instance: "shared", id: "litellm-2026-11-01" }], refused: [] },
        },
      ],
    });
  });

  it("keeps to one instance when told", async () => {
    const { repository, pgkit } = await setUp();
    const { stdout } = await pgkit("prune --yes --instance other");
    expect(stdout).not.toContain("litellm");
    expect(await idsIn(repository)).toEqual(all);
  });

  it("exits with 11 and names the holder while another prune is at work", async () => {
    const { repository, pgkit } = await setUp();
    const holder = { host: "host-7", pid: 7, command: "pgkit prune" };
    const options = { clock: systemClock, holder, ttlMs: 120_000, report: () => undefined };
    const result = await withLease(repository, pruneLease, options, async () => await pgkit("prune --yes"));
    expect(result).toMatchObject({ status: 11, stderr: expect.stringContaining("pgkit prune on host-7, process 7") });
    expect(await idsIn(repository)).toEqual(all);
    expect((await auditOf(repository)).map(({ result }) => result)).toEqual(["started", "failed"]);
  });

  it("goes on with the next repository when one is not there, and exits with 3", async () => {
    const { repository, pgkit } = await setUp();
    const missing = pathToFileURL(join(await folder(), "nothing"));
    const repositories = `repositories:\n  - { name: a, url: "${missing}" }\n  - { name: b, url: "${repository.where}" }`;
    const result = await pgkit("prune --yes", { files: { "pgkit.yaml": config(repositories) } });
    expect(result).toMatchObject({ status: 3, stderr: expect.stringContaining("a: there is no pgkit repository") });
    expect(await idsIn(repository)).toEqual(kept);
  });

  it("exits with 10 where there is no repository", async () => {
    const missing = pathToFileURL(join(await folder(), "nothing"));
    const files = { "pgkit.yaml": config(`repository: ${missing}`) };
    expect((await run(["prune", "--yes"], { files })).status).toBe(10);
  });
});

describe("pgkit keep", () => {
  it("pins a backup so that prune keeps it, and releases it", async () => {
    const { repository, pgkit } = await setUp();
    const pinned = await pgkit("keep litellm-2026-11-01 --until +90d --reason audit --json");
    expect(pinned.status).toBe(0);
    expect(JSON.parse(pinned.stdout)).toMatchObject({
      backups: [{ id: "litellm-2026-11-01", instance: "shared", keptUntil: expect.stringMatching(/^20\d\d-.*Z$/) }],
    });
    expect((await pgkit("prune --dry-run")).stdout).toMatch(
      /litellm-2026-11-01 .* pinned until 20\d\d-.*Z by .* \(audit\)/,
    );
    await pgkit("prune --yes");
    expect(await idsIn(repository)).toEqual(all);
    expect(await pgkit("keep litellm-2026-11-01 --release")).toMatchObject({
      status: 0,
      stdout: expect.stringContaining("shared/litellm-2026-11-01 is no longer pinned"),
    });
    await pgkit("prune --yes");
    expect(await idsIn(repository)).toEqual(kept);
    const keeps = (await auditOf(repository)).filter(({ command }) => command === "keep");
    expect(keeps.map(({ subject, result }) => `${subject} ${result}`)).toEqual([
      "shared/litellm-2026-11-01 started",
      "shared/litellm-2026-11-01 ok",
      "shared/litellm-2026-11-01 started",
      "shared/litellm-2026-11-01 ok",
    ]);
  });

  it("changes nothing with --dry-run", async () => {
    const { repository, pgkit } = await setUp();
    const { status, stdout } = await pgkit("keep litellm-2026-11-01 --forever --dry-run");
    expect({ status, stdout }).toEqual({ status: 0, stdout: expect.stringContaining("would be pinned for ever") });
    expect(await readKeeps(repository)).toEqual([]);
  });

  it("refuses what is not there, past, or said twice", async () => {
    const { pgkit } = await setUp();
    expect((await pgkit("keep nothing --forever")).status).toBe(10);
    for (const flags of ["", " --forever --release", " --until -1d", " --until someday"]) {
      expect((await pgkit(`keep litellm-2026-11-01${flags}`)).status).toBe(2);
    }
  });
});
