import { readdirSync, readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { dirname, join, relative } from "node:path";
import { describe, expect, test } from "vitest";

const src = join(import.meta.dirname, "..", "src");
const files = readdirSync(src, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
  .map((entry) => relative(src, join(entry.parentPath, entry.name)))
  .sort()
  .map((path) => {
    const text = readFileSync(join(src, path), "utf8");
    const code = withoutCommentsAndTexts(text);
    return { path, text, code, lines: text.split("\n").length - 1, imports: importsOf(text, path) };
  });

/** Who may import whom; what is not listed may not be imported. A folder may always import itself. */
const mayImport: Record<string, readonly string[]> = {
  lib: [],
  store: ["lib"],
  repo: ["lib", "store"],
  postgres: ["lib"],
  kube: ["lib"],
  manifests: ["lib"],
  switch: ["lib", "kube", "postgres"],
  "schedule.ts": ["lib"],
  backup: ["lib", "store", "repo", "postgres"],
  wal: ["lib", "store", "repo", "postgres"],
  restore: ["lib", "store", "repo", "postgres", "backup", "wal"],
  advise: ["lib", "postgres"],
  prove: ["lib", "store", "repo", "postgres", "schedule.ts", "backup", "wal", "restore"],
  saga: ["lib", "store", "repo"],
  move: ["lib", "store", "repo", "saga", "postgres", "backup", "wal", "restore", "prove", "kube", "switch"],
  incluster: ["lib", "store", "repo", "saga", "kube", "manifests"],
  demo: ["lib", "store", "repo", "postgres", "backup", "wal", "restore", "prove"],
  observe: ["lib", "store", "repo", "postgres", "backup", "wal", "restore", "prove", "schedule.ts"],
  cli: [
    ...["lib", "store", "repo", "postgres", "kube", "switch", "schedule.ts", "backup", "wal", "restore"],
    ...["advise", "prove", "move", "incluster", "demo", "observe", "manifests"],
  ],
  "main.ts": ["cli", "lib"],
};

/** The one folder that may import a package of others; a name that ends in `/` stands for all that begin with it. */
const importers: Record<string, readonly string[]> = {
  "@aws-sdk/": ["store"],
  "@smithy/": ["store"],
  "@azure/": ["store"],
  "cron-parser": ["schedule.ts"],
  pg: ["postgres"],
  // Wherever a process is started; passwords then travel as postgres/tools.ts does it.
  execa: ["postgres", "restore", "wal", "switch"],
  "@kubernetes/client-node": ["kube"],
  commander: ["cli"],
  "cli-progress": ["cli"],
  "@clack/prompts": ["cli"],
  yaml: ["cli"],
  valibot: ["cli", "repo", "saga"],
  "age-encryption": ["repo"],
  "p-limit": ["lib", "store", "repo", "postgres", "backup", "restore", "wal", "move", "kube"],
};

/** What depends on the process around, and the files that may ask for it. */
const outside: { what: string; pattern: RegExp; allowed: readonly string[] }[] = [
  { what: "process.env", pattern: /\bprocess\.env\b/, allowed: ["main.ts"] },
  { what: "process.exit", pattern: /\bprocess\.exit\b/, allowed: ["main.ts"] },
  { what: "process.argv", pattern: /\bprocess\.argv\b/, allowed: ["main.ts"] },
  { what: "process.stdout or stderr", pattern: /\bprocess\.std(out|err|in)\b/, allowed: ["main.ts"] },
  { what: "console", pattern: /\bconsole\./, allowed: ["cli/render.ts"] },
  { what: "Date.now", pattern: /\bDate\.now\b/, allowed: ["lib/time.ts"] },
  { what: "new Date()", pattern: /\bnew Date\(\s*\)/, allowed: ["lib/time.ts"] },
  { what: "performance.now", pattern: /\bperformance\.now\b/, allowed: ["lib/time.ts"] },
  { what: "Math.random", pattern: /\bMath\.random\b/, allowed: ["lib/time.ts"] },
];

/** What the house style forbids and biome or the compiler does not already. */
const forbidden: { what: string; pattern: RegExp }[] = [
  { what: "a default export", pattern: /^export default\b/m },
  { what: "an enum", pattern: /^(export )?(const )?enum\b/m },
  { what: "a namespace", pattern: /^(export )?(declare )?namespace\b/m },
  { what: "any", pattern: /(:|<|\bas|\|)\s*any\b/ },
  { what: "a barrel (re-export)", pattern: /^export (\*|\{[^}]*\}) from\b/m },
  { what: "a non-null assertion", pattern: /[\w)\]]!(\.|\[|;|,|\)|$)/m },
  { what: "a class other than the error", pattern: /^(export )?(abstract )?class (?!PgkitError\b)/m },
];

describe("the architecture", () => {
  test("every folder of src has a place in the layers", () => {
    const unknown = files.map(({ path }) => layerOf(path)).filter((layer) => !(layer in mayImport));
    expect(new Set(unknown), "add it to mayImport of this test, and to DESIGN").toEqual(new Set());
  });

  test("a layer imports only those below it", () => {
    const breaches = files.flatMap(({ path, imports }) =>
      imports
        .filter((to) => to.startsWith("."))
        .map((to) => layerOf(relative(src, join(dirname(join(src, path)), to))))
        .filter((layer) => layer !== layerOf(path) && layer !== "..")
        .filter((layer) => !(mayImport[layerOf(path)] ?? []).includes(layer))
        .map(
          (layer) =>
            `${path} imports ${layer}, and ${layerOf(path)} may import only itself, ${mayImport[layerOf(path)]}`,
        ),
    );
    expect(breaches).toEqual([]);
  });

  test("a package of others is imported by its folder alone", () => {
    const breaches = files.flatMap(({ path, imports }) =>
      imports
        .filter((name) => !name.startsWith(".") && !isBuiltin(name))
        .flatMap((name) => {
          const [, allowed] = Object.entries(importers).find(([key]) => fits(name, key)) ?? [];
          if (allowed === undefined) return [`${path} imports ${name}, which has no importing folder`];
          return allowed.includes(layerOf(path)) ? [] : [`${path} imports ${name}, which only ${allowed} may`];
        }),
    );
    expect(breaches).toEqual([]);
  });

  test("a module of Node is imported by its full name", () => {
    const breaches = files.flatMap(({ path, imports }) =>
      imports
        .filter((name) => builtinModules.includes(name))
        .map((name) => `${path} imports ${name}: write node:${name}`),
    );
    expect(breaches).toEqual([]);
  });

  test.each(outside)("$what is asked for by $allowed alone", ({ pattern, allowed }) => {
    const breaches = files.filter(({ path, code }) => pattern.test(code) && !allowed.includes(path));
    expect(breaches.map(({ path }) => path)).toEqual([]);
  });

  test.each(forbidden)("src has not $what", ({ pattern }) => {
    const breaches = files.flatMap(({ path, code }) => {
      const found = pattern.exec(code);
      return found === null ? [] : [`${path}:${code.slice(0, found.index).split("\n").length}: ${found[0].trim()}`];
    });
    expect(breaches).toEqual([]);
  });

  test("no file is longer than 300 lines", () => {
    expect(files.filter(({ lines }) => lines > 300).map(({ path, lines }) => `${path}: ${lines} lines`)).toEqual([]);
  });

  test("no function is longer than 40 lines", () => {
    expect(files.flatMap(({ path, text }) => longFunctions(text).map((found) => `${path}:${found}`))).toEqual([]);
  });

  test("nothing happens when a module is imported", () => {
    const breaches = files.flatMap(({ path, code }) => {
      const found = /^(await |for |if |while |try |[a-zA-Z_$][\w$.]*(\([^)]*\))?(\.[\w$]+)*\()/m.exec(code);
      return found === null ? [] : [`${path}:${code.slice(0, found.index).split("\n").length}: ${found[0]}`];
    });
    expect(breaches).toEqual([]);
  });
});

/** The folder below src, or the file itself where it stands directly in src. */
function layerOf(path: string): string {
  return path.split("/")[0] ?? path;
}

function fits(name: string, key: string): boolean {
  return key.endsWith("/") ? name.startsWith(key) : name === key || name.startsWith(`${key}/`);
}

function isBuiltin(name: string): boolean {
  return name.startsWith("node:") || builtinModules.includes(name);
}

/** What a file imports, types included, statically or when it runs. */
function importsOf(text: string, path: string): string[] {
  const code = text.replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");
  const statics = [...code.matchAll(/^(?:import|export)\b[^;"]*?\bfrom "([^"]+)"/gm)].map((found) => found[1] ?? "");
  const effects = [...code.matchAll(/^import "([^"]+)"/gm)].map((found) => found[1] ?? "");
  const dynamic = [...code.matchAll(/\bimport\(\s*([^)]*?)\s*\)/g)].map((found) => {
    const name = /^"([^"]+)"$/.exec(found[1] ?? "")?.[1];
    if (name === undefined) throw new Error(`${path}: import(${found[1]}) must name its module in quotes`);
    return name;
  });
  return [...statics, ...effects, ...dynamic];
}

/** The code with the insides of comments and texts blanked, line by line as long as before; what stands in `${}` stays. */
function withoutCommentsAndTexts(text: string): string {
  return text.replaceAll(
    /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`/g,
    (found) => {
      if (found.startsWith("/")) return found.replaceAll(/[^\n]/g, " ");
      return found.replaceAll(/(\$\{[^}]*\})|[^\n]/g, (_, code: string | undefined) => code ?? "'");
    },
  );
}

/**
 * `12: nameOf takes 45 lines` for each function that is declared at the start of a line, as biome formats it. One whose
 * work is to return an object of methods, such as a store, is measured without that object.
 */
function longFunctions(text: string): string[] {
  const lines = text.split("\n");
  return lines.flatMap((line, start) => {
    const name = /^(?:export )?(?:async )?function\*? ?(\w+)/.exec(line)?.[1];
    if (name === undefined) return [];
    const body = lines.slice(start, start + lines.slice(start).indexOf("}") + 1);
    const methods = body.indexOf("  return {") + 1;
    const length = methods > 0 && body.at(-2) === "  };" ? methods : body.length;
    return length > 40 ? [`${start + 1}: ${name} takes ${length} lines`] : [];
  });
}
