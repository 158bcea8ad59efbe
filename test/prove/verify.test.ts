import { chmod, mkdtemp, readdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { Programs } from "../../src/postgres/programs.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { makeEverything, programsForEverything } from "../support/everything.ts";
import { type Pgkit, pgkitFor } from "../support/pgkit.ts";

let programs: Programs & AsyncDisposable;
let cluster: Cluster;
let pgkit: Pgkit;
const ids: Record<string, string> = {};

beforeAll(async () => {
  programs = await programsForEverything();
  cluster = await startCluster({ programs });
  pgkit = await pgkitFor({ whole: { cluster }, parts: { cluster, settings: ["wholeBelow: 1"] } }, [
    `postgresBin: [${programs.binDir}]`,
  ]);
  await makeEverything(cluster, "everything");
  for (const instance of ["whole", "parts"]) ids[instance] = await pgkit.backup("everything", instance);
});
afterAll(async () => {
  await pgkit?.[Symbol.asyncDispose]();
  await cluster?.[Symbol.asyncDispose]();
  await programs?.[Symbol.asyncDispose]();
});

describe.each(["whole", "parts"])("verify --deep of a backup as %s", (instance) => {
  it("restores every kind of object into a server of its own, and leaves neither that nor its files", async () => {
    const folder = await mkdtemp(join(tmpdir(), "pgkit-deep-"));
    // The server's own user has to pass.
    await chmod(folder, 0o711);
    vi.stubEnv("TMPDIR", folder);
    const { results } = await pgkit.json(["verify", ids[instance] ?? "", "--deep"]);
    expect(results).toEqual([expect.objectContaining({ id: ids[instance], ok: true, problems: [] })]);
    vi.unstubAllEnvs();
    expect(await readdir(folder)).toEqual([]);
    await rmdir(folder);
    expect(await cluster.psql("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1")).toBe(
      "everything\npostgres",
    );
  });

  it("finds a row that is recorded and not there, which reading the bytes cannot", async () => {
    const undo = await tamper(ids[instance] ?? "");
    expect(await pgkit.run(["verify", ids[instance] ?? ""])).toMatchObject({ status: 0 });
    const ran = await pgkit.run(["verify", ids[instance] ?? "", "--deep", "--json"]);
    expect(ran.status).toBe(40);
    expect(JSON.parse(ran.stdout).results).toEqual([
      {
        repository: expect.stringContaining(pgkit.repository),
        id: ids[instance],
        ok: false,
        problems: [expect.stringContaining("table app.kinds has 3 rows, the backup has 4")],
      },
    ]);
    await undo();
  });
});

/** Makes the manifest record one row more than there is; gives what undoes that. */
async function tamper(id: string): Promise<() => Promise<void>> {
  const folder = join(pgkit.repository, "backups");
  const path = join(
    folder,
    (await readdir(folder, { recursive: true })).find((name) => name.endsWith(`${id}.json`)) ?? "",
  );
  const text = await readFile(path, "utf8");
  const manifest: { logical: { tables: { schema: string; name: string; rows: number }[] } } = JSON.parse(text);
  const table = manifest.logical.tables.find(({ schema, name }) => schema === "app" && name === "kinds");
  if (table !== undefined) table.rows++;
  await writeFile(path, JSON.stringify(manifest));
  return () => writeFile(path, text);
}
