import { createHash } from "node:crypto";
import type { JobKind, ManifestInstance, ManifestsRequest } from "./request.ts";

/** `pgkit-logical-shared`: of CronJob, StatefulSet or Job, at most 52 letters, as Kubernetes appends to it. */
export function workloadName(kind: JobKind | "restore", instance: string): string {
  const plain = `pgkit-${kind}-${instance}`;
  const name = plain
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, "-")
    .replaceAll(/^-+|-+$/g, "");
  if (name === plain && name.length <= 52) return name;
  // Two instances that differ only in what cannot be written keep two names.
  const suffix = createHash("sha256").update(instance).digest("hex").slice(0, 8);
  return `${name.slice(0, 43).replaceAll(/-+$/g, "")}-${suffix}`;
}

export function serviceAccountName(kind: JobKind): string {
  return `pgkit-${kind}`;
}

/** The labels of everything that is rendered; `pgkit manifests --diff` finds by them what is rendered no more. */
export const ownLabels = {
  "app.kubernetes.io/name": "pgkit",
  "app.kubernetes.io/managed-by": "pgkit-manifests",
} as const;

/** Labels of a workload and its Pods, by which policies choose them. */
export function workloadLabels(kind: JobKind, { name }: Pick<ManifestInstance, "name">) {
  return { ...ownLabels, "app.kubernetes.io/component": kind, "app.kubernetes.io/instance": labelValue(name) };
}

/** Labels of Kubernetes take 63 letters of few kinds, which names of instances are but for their length. */
function labelValue(text: string): string {
  return text.slice(0, 63).replaceAll(/[^A-Za-z0-9]+$/g, "");
}

/** Kinds that at least one instance has, in their order. */
export function kindsIn({ instances }: ManifestsRequest): JobKind[] {
  const order: readonly JobKind[] = ["logical", "base", "prune", "verify", "check", "stream"];
  return order.filter((kind) => instances.some((instance) => has(instance, kind)));
}

export function has({ schedule, isStreamed }: ManifestInstance, kind: JobKind): boolean {
  return kind === "stream" ? isStreamed : schedule[kind] !== undefined;
}
