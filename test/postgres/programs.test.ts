import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { findPrograms, programsFor } from "../../src/postgres/programs.ts";
import { testPrograms } from "../support/cluster.ts";

let folder = "";
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "pgkit-programs-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

it("finds what packages have installed, by its exact major, without being told where", async () => {
  const { major, version } = await testPrograms();
  expect(await programsFor(major, [])).toMatchObject({ major, version, server: true });
});

it("takes the newest minor of the major, and never another major", async () => {
  await install("old", "99.3");
  await install("new", "99.10");
  await install("beta", "100beta1");
  const dirs = ["old", "new", "beta"].map((name) => join(folder, name));
  expect((await programsFor(99, dirs)).version).toBe("99.10");
  expect((await findPrograms(dirs)).slice(0, 3).map((programs) => programs.version)).toEqual([
    "100beta1",
    "99.10",
    "99.3",
  ]);
});

it("says which package is missing, and which programs there are", async () => {
  await install("clients", "99.1");
  await expect(programsFor(98, [join(folder, "clients")])).rejects.toMatchObject({
    code: "tool-missing",
    message: expect.stringContaining(`99.1 in ${join(folder, "clients")}`),
    hint: expect.stringContaining("postgresql-client-98"),
  });
  await expect(programsFor(99, [join(folder, "clients")], { server: true })).rejects.toMatchObject({
    code: "tool-missing",
    hint: expect.stringContaining("postgresql-99"),
  });
});

it("passes over folders of PATH that have no programs or only Debian's wrapper, which picks a major by itself", async () => {
  await mkdir(join(folder, "empty"));
  await mkdir(join(folder, "bin"));
  await writeFile(join(folder, "pg_wrapper"), "#!/bin/sh\nexit 1\n", { mode: 0o755 });
  await symlink(join(folder, "pg_wrapper"), join(folder, "bin", "pg_dump"));
  const dirs = ["missing", "empty", "bin"].map((name) => join(folder, name));
  expect(await findPrograms(dirs)).toEqual(await findPrograms([]));
});

it("fails on a pg_dump that does not run: it would fail the backup later", async () => {
  await install("broken", "99.1");
  await writeFile(join(folder, "broken", "pg_dump"), "#!/bin/sh\necho nonsense\n");
  await expect(findPrograms([join(folder, "broken")])).rejects.toMatchObject({ code: "tool-failed" });
});

async function install(name: string, version: string): Promise<void> {
  await mkdir(join(folder, name));
  const program = join(folder, name, "pg_dump");
  await writeFile(program, `#!/bin/sh\necho "pg_dump (PostgreSQL) ${version} (Debian)"\n`);
  await chmod(program, 0o755);
}
