import { createHash } from "node:crypto";
import { mkdtemp, open, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { systemClock } from "../../src/lib/time.ts";
import { verifyBackup } from "../../src/prove/verify.ts";
import type { Manifest } from "../../src/repo/manifest.ts";
import type { Repository } from "../../src/repo/repository.ts";
import { fileStore } from "../../src/store/file.ts";
import { reports, repositoryIn } from "../repo/support.ts";
import { openFolder, restore, storeTaken, takeBackup } from "../restore/cluster-support.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";

let cluster: Cluster;
let folder = "";
let repository: Repository;
let backup: Manifest;
let place = "";

beforeAll(async () => {
  folder = await openFolder(await mkdtemp(join(tmpdir(), "pgkit-verify-base-")));
  cluster = await startCluster({ settings: { wal_level: "replica", max_wal_senders: "4" } });
  place = join(folder, "repository");
  repository = await repositoryIn(fileStore({ path: place }));
  await cluster.psql("CREATE TABLE spends AS SELECT i, md5(i::text) FROM generate_series(1, 50000) i");
  backup = await takeBackup(cluster, repository, folder, { id: "base-1" });
});

afterAll(async () => {
  await cluster?.[Symbol.asyncDispose]();
  await rm(folder, { recursive: true, force: true });
});

async function verify(manifest: Manifest, deep = false) {
  const { report, said } = reports();
  const problems = await verifyBackup({
    ...{ repository, backup: manifest, deep, jobs: 2, clock: systemClock, report },
    programsFor: () => Promise.resolve(cluster.programs),
    signal: new AbortController().signal,
  });
  return { problems, said: said() };
}

describe("verify of a base backup", () => {
  it("finds nothing wrong with a whole one; --deep restores it, recovers it and reads its catalogs", async () => {
    expect((await verify(backup)).problems).toEqual([]);
    const { problems, said } = await verify(backup, true);
    expect(problems).toEqual([]);
    expect(said).toContain("verified by pg_verifybackup, recovered to consistency; catalogs of 2 databases read");
  });

  it("names the object in which one bit was flipped", async () => {
    const volume = backup.files.find(({ role }) => role === "base")?.volumes[0];
    const file = await open(join(place, volume?.key ?? ""), "r+");
    const byte = Buffer.alloc(1);
    const position = Math.floor((volume?.storedBytes ?? 0) / 2);
    const flip = async () => {
      await file.read(byte, 0, 1, position);
      await file.write(
        byte.map((value) => value ^ 4),
        0,
        1,
        position,
      );
    };
    await flip();
    try {
      expect((await verify(backup)).problems).toEqual([expect.stringContaining(volume?.key ?? "")]);
      const dataDir = join(folder, "damaged");
      await expect(restore(repository, [backup], dataDir)).rejects.toMatchObject({ code: "object-corrupt" });
    } finally {
      await flip();
      await file.close();
    }
  });

  it("names the files that are not what backup_manifest says, as a restore does, though every byte is as stored", async () => {
    const taken = join(folder, "taken-base-1");
    const original = await readFile(join(taken, "backup_manifest"), "utf8");
    const lines = original.split("\n").slice(0, -2);
    const changed = lines.map((line) =>
      line.includes('"PG_VERSION"') ? line.replace(/"Checksum": "\w{4}/, '"Checksum": "0000') : line,
    );
    const more = changed.map((line) => line.replace('"Files": [', '"Files": [\n{ "Path": "base/1/lost", "Size": 1 },'));
    const text = `${more.join("\n")}\n`;
    const sum = createHash("sha256").update(text).digest("hex");
    await writeFile(join(taken, "backup_manifest"), `${text}"Manifest-Checksum": "${sum}"}\n`);
    const wrong = await storeTaken(cluster, repository, taken, { id: "base-2" });
    const says = /base\/1\/lost is in none of its archives; PG_VERSION has .*0000/;
    expect((await verify(wrong)).problems).toEqual([expect.stringMatching(says)]);
    await expect(restore(repository, [wrong], join(folder, "wrong"))).rejects.toMatchObject({
      code: "verification-failed",
      message: expect.stringMatching(says),
    });
    await writeFile(join(taken, "backup_manifest"), original);
  });

  it("names WAL between start and stop that is not stored, and the parent that is gone", async () => {
    const base = backup.base && { ...backup.base, walIncluded: false };
    const { problems } = await verify({ ...backup, ...(base && { base }), parent: "base-0" });
    expect(problems).toEqual([
      expect.stringContaining("it builds on base-0, and there is no backup base-0"),
      expect.stringMatching(/it needs WAL [0-9A-F]{24}, which is not stored/),
    ]);
  });
});
