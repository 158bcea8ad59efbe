import { type Difference, nameOf } from "../manifests/diff.ts";
import type { Manifest } from "../manifests/request.ts";

/** Says that a file may be replaced, and what makes it. */
export const renderedMark = "# Rendered by pgkit manifests: change the configuration and render again.\n";

/** YAML that also a reader of YAML 1.1 takes as it is meant: Kubernetes' own. */
export async function yamlOf(document: object): Promise<string> {
  const { stringify } = await import("yaml");
  return stringify(document, { lineWidth: 0, aliasDuplicateObjects: false, compat: "yaml-1.1" });
}

/** Several in one stream, as `kubectl apply -f -` takes it. */
export async function yamlStream(manifests: readonly Manifest[]): Promise<string> {
  return (await Promise.all(manifests.map(yamlOf))).join("---\n");
}

/** The files of a Kustomize base, by name: one an object, `kustomization.yaml`, and the Secret as an example beside it. */
export async function baseFiles(manifests: readonly Manifest[], secret: Manifest): Promise<Map<string, string>> {
  const files = new Map<string, string>();
  const home = secret.metadata.namespace;
  for (const manifest of manifests) files.set(fileName(manifest, home), renderedMark + (await yamlOf(manifest)));
  const kustomization = {
    apiVersion: "kustomize.config.k8s.io/v1beta1",
    kind: "Kustomization",
    resources: [...files.keys()],
  };
  files.set("kustomization.yaml", renderedMark + (await yamlOf(kustomization)));
  const note =
    "# What the Secret must hold. It is no part of the base: make it by your secret manager, or in an overlay.\n";
  files.set("secret.example.yaml", renderedMark + note + (await yamlOf(secret)));
  return files;
}

function fileName({ kind, metadata }: Manifest, home: string | undefined): string {
  const { name, namespace } = metadata;
  const elsewhere = namespace === undefined || namespace === home ? "" : `${namespace}-`;
  return `${kind.toLowerCase()}-${elsewhere}${name}.yaml`;
}

/** As `diff` writes: `-` is the cluster, `+` the manifests. */
export function differencesText(differences: readonly Difference[]): string {
  if (differences.length === 0) return "the cluster is as the manifests say";
  return differences
    .map((each) => {
      if (each.action === "add") return `+ ${nameOf(each)} is not there`;
      if (each.action === "remove") return `- ${nameOf(each)} is there, and rendered no more`;
      const fields = each.fields.flatMap(({ path, from, to }) => [`  ${path}`, ...lines("-", from), ...lines("+", to)]);
      return [`~ ${nameOf(each)}`, ...fields].join("\n");
    })
    .join("\n");
}

function lines(sign: "-" | "+", value: unknown): string[] {
  if (value === undefined) return [];
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return text
    .trimEnd()
    .split("\n")
    .map((line) => `    ${sign} ${line}`);
}
