import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { errorCodes, PgkitError } from "../../lib/errors.ts";
import type { Manifest } from "../../manifests/request.ts";
import type { Command, CommandContext } from "../command.ts";

export const manifestsCommand: Command = {
  name: "manifests",
  summary: "Render Kubernetes manifests for the configuration: CronJobs, streamers, and what they may do",
  arguments: [],
  options: ["output", "diff"],
  examples: [
    { line: "pgkit manifests | kubectl apply -f -", does: "everything but the Secret, which is yours" },
    { line: "pgkit manifests -o k8s/base", does: "a Kustomize base, for Git" },
    { line: "pgkit manifests --diff", does: "what the cluster has that differs; exit status 40 where it does" },
  ],
  run: async (context, { flags }) => {
    const { manifestsFor, exampleSecret } = await import("../../manifests/manifests.ts");
    const { manifestsRequest } = await import("../manifests-request.ts");
    const text = await import("../manifests-text.ts");
    if (flags.diff && flags.output !== undefined) {
      throw new PgkitError("usage", "--diff and --output are two different things", { hint: "name one of them" });
    }
    const request = await manifestsRequest(context.config, context.instances());
    const manifests = manifestsFor(request);
    if (flags.diff) return await showDifferences(context, manifests, request.namespace);
    if (flags.output !== undefined) {
      return await writeBase(context, flags.output, await text.baseFiles(manifests, exampleSecret(request)));
    }
    const stream = await text.yamlStream(manifests);
    context.out.result({ json: { apiVersion: "v1", kind: "List", items: manifests }, text: stream });
    return 0;
  },
};

async function showDifferences(
  context: CommandContext,
  manifests: readonly Manifest[],
  namespace: string,
): Promise<number> {
  const { differencesIn } = await import("../manifests-cluster.ts");
  const { differencesText } = await import("../manifests-text.ts");
  const differences = await differencesIn(await context.kube(), manifests, namespace, context.signal);
  context.out.result({ json: { differences }, text: () => differencesText(differences) });
  return differences.length === 0 ? 0 : errorCodes["check-failed"].exit;
}

/** Replaces what an earlier run wrote. Fails with `refused-overwrite`, before anything is changed, at files of others. */
async function writeBase({ out }: CommandContext, folder: string, files: ReadonlyMap<string, string>): Promise<number> {
  const { renderedMark } = await import("../manifests-text.ts");
  await mkdir(folder, { recursive: true });
  const there = (await readdir(folder)).filter((name) => name.endsWith(".yaml"));
  const stale: string[] = [];
  for (const name of there) {
    const isOurs = (await readFile(join(folder, name), "utf8")).startsWith(renderedMark);
    if (isOurs && !files.has(name)) stale.push(name);
    if (isOurs || !files.has(name)) continue;
    throw new PgkitError("refused-overwrite", `${join(folder, name)} was not written by pgkit manifests`, {
      hint: "name another folder, or move that file away: changes of yours belong into an overlay",
    });
  }
  for (const [name, text] of files) await writeFile(join(folder, name), text);
  for (const name of stale) await rm(join(folder, name));
  const written = [...files.keys()];
  out.result({
    json: { folder, written, removed: stale },
    text: [
      `${written.length} files in ${folder}${stale.length === 0 ? "" : `, and removed: ${stale.join(", ")}`}`,
      "next: make the Secret (see secret.example.yaml there), then kubectl apply -k on it or an overlay of yours",
    ].join("\n"),
  });
  return 0;
}
