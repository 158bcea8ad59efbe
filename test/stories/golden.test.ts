import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { run } from "../cli/run.ts";
import { startCluster } from "../support/cluster.ts";

const fixtures = join(import.meta.dirname, "..", "..", "fixtures");

it("a repository of format 1, written by pgkit 0.1.0, restores into a server of today", async () => {
  const repository = await mkdtemp(join(tmpdir(), "pgkit-golden-"));
  onTestFinished(() => rm(repository, { recursive: true, force: true }));
  await cp(join(fixtures, "repository-1"), repository, { recursive: true });
  await using cluster = await startCluster();
  const yaml = `
repository: ${repository}
encryption: { identityFile: ${join(fixtures, "repository-1.identity.txt")} }
instances: { shared: { url: "${cluster.url()}" } }
`;
  const differences = (database: string, rows: string, expected: string) =>
    cluster.psql(
      `SELECT (SELECT count(*) FROM (${rows}) r), (SELECT count(*) FROM (${rows} EXCEPT ${expected}) d)`,
      database,
    );
  for (const database of ["litellm", "n8n"]) {
    const restored = await run(["restore", database, "--quiet"], { files: { "pgkit.yaml": yaml } });
    expect(restored, restored.stderr).toMatchObject({ status: 0 });
  }
  // As they were made, so that no number is taken from a restore.
  const spends = `SELECT 'request-' || i, i / 100.0, timestamptz '2026-11-01Z' + i * interval '1 minute' FROM generate_series(1, 500) i`;
  expect(await differences("litellm", `TABLE "LiteLLM_SpendLogs"`, spends)).toBe("500|0");
  const executions = "SELECT i, 1 + i % 50, md5(i::text) FROM generate_series(1, 1000) i";
  expect(await differences("n8n", "TABLE execution_entity", executions)).toBe("1000|0");
  const owner =
    "SELECT pg_get_userbyid(datdba), current_setting('work_mem') FROM pg_database WHERE datname = current_database()";
  expect(await cluster.psql(owner, "n8n")).toBe("n8n_user|8MB");
});
