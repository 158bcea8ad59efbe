import { execFile } from "node:child_process";
import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect } from "vitest";
import type { Cluster } from "../support/cluster.ts";

const exec = promisify(execFile);

/** Does what a person does: takes the script out of RESTORE.md by the command that it gives, and edits the first lines. */
export async function scriptOf(
  guide: string,
  edits: Record<string, string>,
  { folder, target }: { folder: string; target: Cluster },
): Promise<string> {
  const place = await mkdtemp(join(folder, "script-"));
  await writeFile(join(place, "RESTORE.md"), guide);
  const [extract = "", start] = consoleBlock(guide, "sed").split("\n");
  await exec("bash", ["-c", extract], { cwd: place });
  expect(start).toBe("bash -x restore.sh");
  let text = await readFile(join(place, "restore.sh"), "utf8");
  for (const [name, value] of Object.entries(edits)) {
    const line = new RegExp(`^${name}=.*$`, "m");
    expect(text.slice(0, text.indexOf("case $REPO")), `RESTORE.md begins with ${name}`).toMatch(line);
    text = text.replace(line, () => `${name}=${quoted(value)}`);
  }
  const login = `export PGHOST=${target.host} PGPORT=${target.port} PGUSER=${target.superuser}`;
  expect(text).toMatch(/^export PGHOST=/m);
  await writeFile(
    join(place, "restore.sh"),
    text.replace(/^export PGHOST=.*$/m, () => login),
  );
  return join(place, "restore.sh");
}

/** The commands beside the script, by how they start. */
export function consoleBlock(guide: string, start: string): string {
  const blocks = [...guide.matchAll(/^```console\n([\s\S]*?)\n```$/gm)].map(([, text = ""]) => text);
  const found = blocks.find((text) => text.startsWith(start));
  if (found === undefined) throw new Error(`RESTORE.md has no console block that starts with ${start}`);
  return found;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** Runs bash with the programs of the server's major, and nothing of our environment. */
export function bash(
  args: string[],
  { folder, target }: { folder: string; target: Cluster },
  { env = {}, cwd = folder }: { env?: Record<string, string>; cwd?: string } = {},
) {
  const path = `${target.binDir}:${process.env["PATH"]}`;
  return exec("bash", args, {
    cwd,
    env: { PATH: path, HOME: folder, LC_ALL: "C.UTF-8", PGPASSWORD: target.password, ...env },
    maxBuffer: 2 ** 26,
  });
}

/** All that pg_dump says of a database, but for the key that it makes up for each dump. */
export async function contentOf(cluster: Cluster, name: string): Promise<string> {
  const dump = await cluster.program("pg_dump", [], name);
  return dump.replaceAll(/^\\(un)?restrict .*$/gm, "");
}
