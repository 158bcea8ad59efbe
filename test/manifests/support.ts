import { execFile, execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { parseAllDocuments } from "yaml";
import type { Manifest } from "../../src/manifests/request.ts";
import { type RunOptions, run } from "../cli/run.ts";

export const project = join(import.meta.dirname, "..", "..");
export const read = (...path: string[]) => readFileSync(join(project, ...path), "utf8");

/** What `pgkit manifests` prints for a configuration. */
export async function rendered(
  config: string,
  files: RunOptions["files"] = {},
): Promise<{ text: string; manifests: Manifest[] }> {
  const ran = await run(["manifests"], { files: { "pgkit.yaml": config, ...files } });
  if (ran.status !== 0) throw new Error(ran.stderr);
  return { text: ran.stdout, manifests: documents(ran.stdout) };
}

export function documents(text: string): Manifest[] {
  return parseAllDocuments(text).map((document) => {
    const [error] = document.errors;
    if (error !== undefined) throw error;
    return document.toJS();
  });
}

export interface PodSpec {
  serviceAccountName?: string;
  automountServiceAccountToken?: boolean;
  securityContext?: Record<string, unknown>;
  hostNetwork?: boolean;
  volumes?: (Record<string, unknown> & { name: string })[];
  initContainers?: Container[];
  containers: Container[];
}

export interface Container {
  name: string;
  image: string;
  args?: string[];
  command?: string[];
  env?: {
    name: string;
    value?: string;
    valueFrom?: { secretKeyRef: { name: string; key: string; optional?: boolean } };
  }[];
  envFrom?: unknown[];
  securityContext?: Record<string, unknown>;
  resources?: { limits?: { memory?: string } };
  volumeMounts?: { name: string; mountPath: string; readOnly?: boolean }[];
}

/** The Pods of CronJobs and StatefulSets, by the name of what makes them. */
export function podsOf(manifests: readonly Manifest[]): Map<string, PodSpec> {
  const pods = new Map<string, PodSpec>();
  for (const { kind, metadata, spec } of manifests as (Manifest & { spec: never })[]) {
    const cron = spec as { jobTemplate: { spec: { template: { spec: PodSpec } } } };
    const set = spec as { template: { spec: PodSpec } };
    if (kind === "CronJob") pods.set(metadata.name, cron.jobTemplate.spec.template.spec);
    if (kind === "StatefulSet") pods.set(metadata.name, set.template.spec);
  }
  return pods;
}

/** The root directory that has Debian's kustomize; made where it is not there. */
export function makeRoot(): void {
  execFileSync(join(project, "scripts", "image-root.sh"), ["build"], { stdio: ["ignore", "ignore", "inherit"] });
}

/** What Kustomize makes of a folder of the project. */
export async function kustomized(folder: string): Promise<Manifest[]> {
  const { stdout } = await promisify(execFile)(
    join(project, "scripts", "in-root.sh"),
    ["kustomize", "build", join(project, folder)],
    { env: { ...process.env, PGKIT_ROOT: "image" }, maxBuffer: 2 ** 26 },
  );
  return documents(stdout);
}

export const overlays = readdirSync(join(project, "k8s", "overlays")).sort();
