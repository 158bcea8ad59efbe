import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { systemClock } from "../../src/lib/time.ts";
import { commitBackup } from "../../src/repo/backups.ts";
import type { Repository } from "../../src/repo/repository.ts";
import { createLineage, type Lineage, putPartial, putWal, recordGap } from "../../src/repo/wal.ts";
import { fileStore } from "../../src/store/file.ts";
import { repositoryIn, storeBackup } from "../repo/support.ts";
import { at, baseOf, range } from "../repo/wal-support.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { run } from "./run.ts";

const execute = promisify(execFile);

interface Window {
  timeline: number;
  systemId: string;
  from: string;
  to: string;
  toIsEstimate?: boolean;
  gaps: { fromLsn: string; toLsn: string; from?: string; to?: string; reason?: string }[];
  backups: string[];
}

/** Real WAL of a server that wrote a row in each of its segments, at moments that are known. */
describe("pgkit list, with base backups", () => {
  let cluster: Cluster;
  let lineage: Lineage;
  let names: string[];
  let rows: { before: Date; after: Date }[];
  const folders: string[] = [];

  beforeAll(async () => {
    cluster = await startCluster({ settings: { synchronous_commit: "on", autovacuum: "off", wal_keep_size: "1GB" } });
    const systemId = (await cluster.psql("SELECT system_identifier FROM pg_control_system()")).trim();
    lineage = { instance: "shared", systemId };
    await cluster.psql("CREATE TABLE t (n int)");
    rows = [];
    names = [];
    for (const n of range(1, 6)) {
      await cluster.psql("SELECT pg_switch_wal()");
      const before = new Date();
      await cluster.psql(`INSERT INTO t VALUES (${n})`);
      rows.push({ before, after: new Date() });
      names.push((await cluster.psql("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")).trim());
    }
    await cluster.psql("SELECT pg_switch_wal()");
  });
  afterAll(async () => {
    await cluster[Symbol.asyncDispose]();
    for (const folder of folders) await rm(folder, { recursive: true, force: true });
  });

  const numberOf = (name: string) => Number.parseInt(name.slice(8, 16), 16) * 256 + Number.parseInt(name.slice(16), 16);
  const contentOf = async (name: string) => await readFile(join(cluster.dataDir, "pg_wal", name));

  /** A repository with a base backup that starts in the first of the segments, and those of them that `stored` says. */
  async function setUp(stored: readonly number[], settings: (repository: Repository) => Repository = (same) => same) {
    const folder = await mkdtemp(join(tmpdir(), "pgkit-test-"));
    folders.push(folder);
    const repository = await repositoryIn(fileStore({ path: folder }));
    const facts = { ...lineage, segmentBytes: 16 * 1024 * 1024, serverVersion: "17.2" };
    await createLineage(repository, facts, systemClock);
    for (const nth of stored) {
      const name = names[nth] ?? "";
      await putWal(settings(repository), lineage, name, await contentOf(name));
    }
    await commit(repository, "base-1", 0);
    const yaml = (lines = "") =>
      `repository: ${folder}\n${lines}instances:\n  shared:\n    url: postgresql://postgres@localhost/postgres\n`;
    const list = async (args: string[] = [], lines?: string) =>
      await run(["list", ...args], { files: { "pgkit.yaml": yaml(lines) } });
    const json = async (lines?: string) => {
      const { stdout, stderr, status } = await list(["--json"], lines);
      expect(status, stderr).toBe(0);
      return JSON.parse(stdout) as { windows: Window[]; backups: Record<string, unknown>[] };
    };
    return { repository, list, json };
  }

  async function commit(repository: Repository, id: string, nth: number): Promise<void> {
    const start = numberOf(names[nth] ?? "");
    const manifest = baseOf({ id, systemId: lineage.systemId, start });
    const stoppedAt = (rows[nth]?.after ?? new Date(0)).toISOString();
    const base = { ...manifest.base, stoppedAt };
    await commitBackup(repository, { ...manifest, base, startedAt: stoppedAt, repository: repository.id, files: [] });
  }

  /** Seconds, as the document has them. */
  const between = (text: string | undefined, { before, after }: { before: Date; after: Date } = rows[0] ?? never()) => {
    const time = Date.parse(text ?? "");
    expect(time).toBeGreaterThanOrEqual(Math.floor(before.getTime() / 1000) * 1000);
    expect(time).toBeLessThanOrEqual(after.getTime());
  };

  test("a window ends at the last commit that is stored, also one of a partial segment", async () => {
    const { repository, json, list } = await setUp([0, 1, 2]);
    const [window] = (await json()).windows;
    expect(window).toMatchObject({
      instance: "shared",
      systemId: lineage.systemId,
      timeline: 1,
      gaps: [],
      backups: ["base-1"],
    });
    between(window?.to, rows[2]);
    between(window?.from, rows[0]);
    await putPartial(repository, lineage, names[3] ?? "", await contentOf(names[3] ?? ""));
    between((await json()).windows[0]?.to, rows[3]);
    const { stdout } = await list();
    expect(stdout).toMatch(/INSTANCE +TIMELINE +FROM +TO +GAPS\nshared +1 +20.*20.*none/);
    expect(stdout).toMatch(/INSTANCE +DATABASE +RESTORABLE UNTIL +FROM\nshared +litellm +20.* WAL of timeline 1/);
    expect((await json()).backups[0]).toMatchObject({
      kind: "base",
      wal: { timeline: 1, startLsn: expect.any(String) },
    });
  });

  test("a gap ends it, with the times around it; a backup behind it begins another", async () => {
    const { repository, json, list } = await setUp([0, 1, 3, 4]);
    const missing = numberOf(names[2] ?? "");
    const gap = { timeline: 1, fromLsn: at(missing), toLsn: at(missing + 1), reason: "the disk was full" };
    await recordGap(repository, lineage, gap, systemClock);
    const [window, ...others] = (await json()).windows;
    expect(others).toEqual([]);
    between(window?.to, rows[1]);
    expect(window?.gaps).toMatchObject([{ reason: "the disk was full" }]);
    between(window?.gaps[0]?.from, rows[1]);
    between(window?.gaps[0]?.to, rows[3]);
    await commit(repository, "base-2", 4);
    const both = (await json()).windows;
    expect(both.map(({ backups }) => backups)).toEqual([["base-1"], ["base-2"]]);
    between(both[1]?.to, rows[4]);
    expect((await list()).stdout).toMatch(/WAL \S+ to \S+ is missing, from 20.* to 20.* \(the disk was full\)/);
  });

  test("a host without the identity shows the windows, with an estimate of their end", async () => {
    const folder = await mkdtemp(join(tmpdir(), "pgkit-test-"));
    folders.push(folder);
    const file = join(folder, "key.txt");
    await execute("age-keygen", ["-o", file]);
    const recipient = (await execute("age-keygen", ["-y", file])).stdout.trim();
    const { json, list } = await setUp([0, 1], (repository) => ({ ...repository, recipients: [recipient] }));
    expect((await json()).windows).toMatchObject([{ toIsEstimate: true, backups: ["base-1"] }]);
    expect((await list()).stdout).toMatch(/shared +1 +20\S+ \S+ \S+ +about 20/);
    const [window] = (await json(`encryption: { recipients: [${recipient}], identityFile: ${file} }\n`)).windows;
    expect(window?.toIsEstimate).toBeUndefined();
    between(window?.to, rows[1]);
  });

  test("a logical backup that is newer than the last commit of the window is what restores furthest", async () => {
    const { repository, list } = await setUp([0, 1]);
    await storeBackup(repository, { id: "litellm-late", startedAt: new Date(Date.now() + 60_000).toISOString() });
    await storeBackup(repository, { id: "n8n-1", database: "n8n" });
    const { stdout } = await list();
    expect(stdout).toMatch(/shared +litellm +20.* litellm-late\n/);
    expect(stdout).toMatch(/shared +n8n +20.* n8n-1/);
  });
});

function never(): never {
  throw new Error("there are no rows");
}
