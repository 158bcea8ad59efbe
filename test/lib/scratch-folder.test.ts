import { execFile } from "node:child_process";
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, symlink, utimes, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, it } from "vitest";
import { ownedScratchFolder } from "../../src/lib/scratch-folder.ts";

const module = new URL("../../src/lib/scratch-folder.ts", import.meta.url).href;
let parent = "";

beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), "pgkit-scratch-test-"));
});
afterEach(() => rm(parent, { recursive: true, force: true }));

/** What a process leaves that is killed right after it has made its folder. */
async function leftByTheDead(prefix: string): Promise<string> {
  const code = `const { ownedScratchFolder } = await import(${JSON.stringify(module)});
    process.stdout.write(await ownedScratchFolder(${JSON.stringify(prefix)}, { parent: ${JSON.stringify(parent)} }));`;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", code]);
  await mkdir(join(stdout, "data"));
  return stdout;
}

it("is private, and those of dead processes are removed when the next of its prefix is made, no others", async () => {
  const mine = await ownedScratchFolder("a-", { parent });
  const other = await leftByTheDead("b-");
  const dead = await leftByTheDead("a-");
  expect((await readdir(parent)).sort()).toEqual([mine, other, dead].map(nameOf).sort());
  const next = await ownedScratchFolder("a-", { parent });
  expect((await readdir(parent)).sort()).toEqual([mine, other, next].map(nameOf).sort());
});

it("leaves alone what others can write to, what is another user's, links, and what is to be kept", async () => {
  const open = await leftByTheDead("a-");
  await chmod(open, 0o777);
  const precious = join(parent, "precious");
  await mkdir(precious);
  await writeFile(join(precious, "pgkit-owner"), await readFile(join(open, "pgkit-owner")));
  await symlink(precious, join(parent, "a-link"));
  const before = [open, precious, "a-link"];
  if (process.getuid?.() === 0) {
    const foreign = await leftByTheDead("a-");
    await chown(foreign, 1, 1);
    before.push(foreign);
  }
  const asked: string[] = [];
  // Made by a process without this one's rules: it is there when ours looks.
  const kept = await leftByTheDead("a-");
  const release = async (folder: string) => asked.push(folder) === 0;
  const made = await ownedScratchFolder("a-", { parent, release });
  expect(asked).toEqual([kept]);
  expect((await readdir(parent)).sort()).toEqual([...before, kept, made].map(nameOf).sort());
});

it("of a folder without an owner's name waits an hour whether it gets one", async () => {
  const young = join(parent, "a-young");
  const old = join(parent, "a-old");
  for (const folder of [young, old]) await mkdir(folder, { mode: 0o700 });
  const twoHoursAgo = Date.now() / 1000 - 2 * 60 * 60;
  await utimes(old, twoHoursAgo, twoHoursAgo);
  const made = await ownedScratchFolder("a-", { parent });
  expect((await readdir(parent)).sort()).toEqual([young, made].map(nameOf).sort());
});

function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
