import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { run } from "../cli/run.ts";
import { withCluster } from "../support/cluster.ts";

it("verify of a backup by its id checks the copy in every repository, and says in which one it is damaged", async () => {
  const folders = await Promise.all(["one", "two"].map((name) => mkdtemp(join(tmpdir(), `pgkit-copy-${name}-`))));
  const [one = "", two = ""] = folders;
  try {
    await withCluster({}, async (cluster) => {
      const repositories = [
        { name: "one", url: one },
        { name: "two", url: two },
      ];
      const files = { "pgkit.yaml": JSON.stringify({ repositories, instances: { it: { url: cluster.url() } } }) };
      await cluster.psql("CREATE DATABASE app");
      const backedUp = await run(["backup", "logical", "app", "--json"], { files });
      const id: string = JSON.parse(backedUp.stdout).backups[0].id;
      await damageArchive(two);
      const verified = await run(["verify", id, "--json"], { files });
      expect(verified.status).toBe(40);
      expect(JSON.parse(verified.stdout).results).toEqual([
        { id, repository: expect.stringContaining(one), ok: true, problems: [] },
        { id, repository: expect.stringContaining(two), ok: false, problems: [expect.stringContaining("archive")] },
      ]);
      const text = await run(["verify", id], { files });
      expect(text.stdout).toMatch(new RegExp(`in .*${one}  ok\\n.*in .*${two}  DAMAGED`));
      await rm(join(two, "backups"), { recursive: true });
      expect(await run(["verify", id], { files })).toMatchObject({ status: 0, stdout: `${id}  ok\n` });
    });
  } finally {
    await Promise.all(folders.map((folder) => rm(folder, { recursive: true, force: true })));
  }
});

async function damageArchive(repository: string): Promise<void> {
  const names = await readdir(repository, { recursive: true });
  const archive = names.find((name) => name.includes("archive.dump")) ?? "";
  await writeFile(join(repository, archive), Buffer.alloc(1000));
}
