import { execFile } from "node:child_process";
import { chmod, cp, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import type { Programs } from "../../src/postgres/programs.ts";

const run = promisify(execFile);
const programs = ["postgres", "initdb", "pg_dump", "pg_restore", "psql"];

/**
 * PostgreSQL 17 of the root directory of Debian 13 (`scripts/setup.sh root`), run on this machine by that Debian's own
 * loader and libraries: so one test has two majors. In a folder that the server's user may read. Dispose of it when
 * its servers have stopped.
 */
export async function newerPrograms(): Promise<Programs & AsyncDisposable> {
  const { PGKIT_CACHE, XDG_CACHE_HOME = join(homedir(), ".cache") } = process.env;
  const root = join(PGKIT_CACHE ?? join(XDG_CACHE_HOME, "pgkit"), "roots", "trixie");
  const folder = await mkdtemp(join(tmpdir(), "pgkit-newer-"));
  // Where a server looks for its files from where it lies, as relocated.ts has it.
  const [home, share] = ["usr/lib/postgresql/17", "usr/share/postgresql/17"];
  const [binDir, real, libraries] = [join(folder, home, "bin"), join(folder, "real"), join(folder, "libraries")];
  for (const dir of [binDir, real, libraries]) await mkdir(dir, { recursive: true });
  await cp(join(root, share), join(folder, share), { recursive: true });
  // Just-in-time compilation would need LLVM too.
  const filter = (path: string) => !/^(bitcode|llvmjit.*)$/.test(basename(path));
  await cp(join(root, home, "lib"), join(folder, home, "lib"), { recursive: true, filter });
  for (const name of programs) await cp(join(root, home, "bin", name), join(real, name));
  await copyLibraries(join(root, "usr/lib/x86_64-linux-gnu"), real, libraries);
  for (const name of programs) {
    const loaded = `${libraries}/ld-linux-x86-64.so.2 --library-path ${libraries} --argv0 "$0" ${real}/${name}`;
    await writeFile(join(binDir, name), `#!/bin/sh\nexec ${loaded} "$@"\n`, { mode: 0o755 });
  }
  await chmod(folder, 0o755);
  const { stdout } = await run(join(binDir, "pg_dump"), ["--version"]);
  const version = /\(PostgreSQL\) (\S+)/.exec(stdout)?.[1] ?? "";
  const dispose = () => rm(folder, { recursive: true, force: true });
  return { major: 17, version, binDir, server: true, [Symbol.asyncDispose]: dispose };
}

/** What the programs need, as the loader finds it, and the loader itself. */
async function copyLibraries(from: string, binaries: string, to: string): Promise<void> {
  const loader = join(from, "ld-linux-x86-64.so.2");
  const needed = new Set([loader]);
  for (const name of await readdir(binaries)) {
    const { stdout } = await run(loader, ["--library-path", from, "--list", join(binaries, name)]);
    for (const [path] of stdout.matchAll(/\/\S+/g)) if (path.startsWith(from)) needed.add(path);
  }
  for (const path of needed) await cp(path, join(to, basename(path)), { dereference: true });
}
