import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { expect, test } from "vitest";
import { commands } from "../src/cli/commands.ts";
import { parseCommandLine } from "../src/cli/program.ts";

const project = join(import.meta.dirname, "..");
const pages = ["README.md", "CHANGELOG.md", "docs", "fixtures/README.md"]
  .flatMap((path) => (path.endsWith(".md") ? [path] : markdownIn(path)))
  .map((path) => ({ path, text: readFileSync(join(project, path), "utf8") }));

function markdownIn(folder: string): string[] {
  return readdirSync(join(project, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".md"))
    .map((name) => join(folder, name));
}

function filesIn(folder: string): string[] {
  return readdirSync(join(project, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(project, join(entry.parentPath, entry.name)));
}

/** Lines of commands in blocks, with what stands for something replaced, and what comes after a `#` or in brackets left out. */
function commandLines(text: string): string[][] {
  const blocks = [...text.matchAll(/^```(?:sh|console|)\n([\s\S]*?)^```$/gm)].map(([, block = ""]) => block);
  const lines = blocks.join("").matchAll(/^(?:\$ )?(?:[A-Z]+=\S+ )*pgkit (.*?)(?: +[#>|].*)?$/gm);
  return [...lines].map(([, line = ""]) => (line.match(/"[^"]*"|\S+/g) ?? []).map((word) => word.replaceAll('"', "")));
}

test("every command line of the documentation is one that pgkit understands", () => {
  const lines = pages.flatMap(({ text }) => commandLines(text));
  expect(lines.length).toBeGreaterThan(20);
  for (const words of lines) {
    expect(() => parseCommandLine(words, commands, "0"), `pgkit ${words.join(" ")}`).not.toThrow();
  }
});

test("every link of the documentation leads to a file that is there", () => {
  const broken = pages.flatMap(({ path, text }) =>
    [...text.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)]
      .map(([, target = ""]) => join(dirname(path), target))
      .filter((target) => !existsSync(join(project, target)))
      .map((target) => `${path} links to ${target}`),
  );
  expect(broken).toEqual([]);
});

test("each decision is in the index, under its own number", () => {
  const folder = join(project, "docs", "decisions");
  const names = readdirSync(folder).filter((name) => name !== "README.md");
  const index = readFileSync(join(folder, "README.md"), "utf8");
  expect(names.filter((name) => !index.includes(`(${name})`))).toEqual([]);
  const numbers = names.map((name) => name.slice(0, 4));
  expect(numbers).toEqual([...new Set(numbers)]);
});

test("nothing that is delivered names a package registry or a folder of one machine", () => {
  const files = ["Dockerfile", ...pages.map(({ path }) => path)];
  const scripts = ["scripts", "k8s"].flatMap(filesIn);
  // The file name of the script that adds PostgreSQL's package source.
  const allowed = /apt\.postgresql\.org\.sh/g;
  const found = [...files, ...scripts].filter((path) =>
    /(deb\.debian|security\.debian|apt\.postgresql|registry\.npmjs)\.org|\/work\//.test(
      readFileSync(join(project, path), "utf8").replaceAll(allowed, ""),
    ),
  );
  expect(found.map((path) => relative(project, join(project, path)))).toEqual([]);
});
