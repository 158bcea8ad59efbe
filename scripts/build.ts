/** Bundles src/main.ts into pgkit.js, the thread that writes files into another, and collects the licences of what is in them. Usage: build.ts [FOLDER], by default dist */
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { isBuiltin } from "node:module";
import { join, resolve } from "node:path";
import { build, type Metafile, type Plugin } from "esbuild";

/** Node's own modules load when the code that uses them does: http, tls and the like cost every command 30 ms else. */
const lazyBuiltins: Plugin = {
  name: "lazy-builtins",
  setup(setup) {
    setup.onResolve({ filter: /^[^.]/ }, ({ kind, path }) => {
      if (kind !== "import-statement" || !isBuiltin(path)) return undefined;
      return { path: path.replace(/^node:/, ""), namespace: "builtin" };
    });
    setup.onLoad({ filter: /.*/, namespace: "builtin" }, ({ path }) => ({
      contents: `module.exports = require("node:${path}")`,
      loader: "js",
    }));
  },
};

/**
 * Of the client of Kubernetes pgkit uses the credentials alone. Its own index, and that of what is generated for every kind, lead
 * to 1,500 files, which take up to 40 s to read: what is imported from them is taken from where it is.
 */
const credentialsAlone: Plugin = {
  name: "credentials-alone",
  setup(setup) {
    const dist = join(root, "node_modules/@kubernetes/client-node/dist");
    setup.onResolve({ filter: /^@kubernetes\/client-node$/ }, () => ({ path: join(dist, "config.js") }));
    setup.onResolve({ filter: /^\.\/gen\/index\.js$/ }, ({ importer }) =>
      importer === join(dist, "config.js") ? { path: "gen", namespace: "kubernetes" } : undefined,
    );
    setup.onLoad({ filter: /.*/, namespace: "kubernetes" }, () => ({
      contents: `export { createConfiguration } from "./gen/configuration.js";
        export { ServerConfiguration } from "./gen/servers.js";`,
      resolveDir: dist,
    }));
  },
};

const root = join(import.meta.dirname, "..");
const dist = resolve(root, process.argv[2] ?? "dist");
await rm(dist, { recursive: true, force: true });
const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: { pgkit: "src/main.ts", "file-writer": "src/restore/file-writer.ts" },
  outdir: dist,
  bundle: true,
  platform: "node",
  target: "node24",
  format: "esm",
  minifySyntax: true,
  minifyWhitespace: true,
  legalComments: "none",
  // pg takes its native bindings only when asked to; pgkit never asks.
  external: ["pg-native"],
  plugins: [lazyBuiltins, credentialsAlone],
  banner: {
    js: 'import{createRequire as __createRequire}from"node:module";const require=__createRequire(import.meta.url);',
  },
  metafile: true,
});
const licences = await collectLicences(metafile);
await writeFile(join(dist, "THIRD-PARTY-LICENSES.txt"), licences.text);
const bytes = Object.values(metafile.outputs).reduce((sum, output) => sum + output.bytes, 0);
process.stdout.write(`pgkit.js: ${Math.round(bytes / 1024)} KiB, ${licences.count} packages\n`);

async function collectLicences(meta: Metafile): Promise<{ text: string; count: number }> {
  const folders = new Set(Object.keys(meta.inputs).flatMap((input) => packageFolder(input) ?? []));
  const sections = await Promise.all([...folders].sort().map(licenceOf));
  return { text: sections.join(`\n\n${"=".repeat(80)}\n\n`), count: folders.size };
}

/** `node_modules/a/node_modules/@b/c/index.js` lies in `node_modules/a/node_modules/@b/c`. */
function packageFolder(input: string): string | undefined {
  return /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1];
}

async function licenceOf(folder: string): Promise<string> {
  const description: unknown = JSON.parse(await readFile(join(root, folder, "package.json"), "utf8"));
  const { name, version, license } = description as Record<string, unknown>;
  const files = (await readdir(join(root, folder))).filter((file) => /^(licen[cs]e|copying|notice)/i.test(file)).sort();
  const texts = await Promise.all(files.map((file) => readFile(join(root, folder, file), "utf8")));
  return [`${name} ${version} (${license})`, ...texts.map((text) => text.trim())].join("\n\n");
}
