import { PgkitError } from "../lib/errors.ts";
import type { ObjectKind } from "./kube.ts";

/** A kind as paths and Roles spell it. */
export interface Resource extends ObjectKind {
  /** `apps`; empty for the core. */
  readonly group: string;
  /** `deployments`. */
  readonly plural: string;
  readonly namespaced: boolean;
}

/** The resource of a kind that pgkit uses itself; `undefined` for others: then the API is asked. */
export function knownResource({ apiVersion, kind }: ObjectKind): Resource | undefined {
  const plural = plurals[`${apiVersion}/${kind}`];
  if (plural === undefined) return undefined;
  return { apiVersion, kind, group: groupOf(apiVersion), plural, namespaced: kind !== "Namespace" };
}

/** The resource of `kind` in the API's own list of a group version. Fails with `kube-missing` where it does not have that kind. */
export function discovered({ apiVersion, kind }: ObjectKind, answer: unknown, where: string): Resource {
  const { resources = [] } = (answer ?? {}) as { resources?: { kind: string; name: string; namespaced: boolean }[] };
  const found = resources.find((each) => each.kind === kind && !each.name.includes("/"));
  if (found === undefined) throw unknownKind({ apiVersion, kind }, where);
  return { apiVersion, kind, group: groupOf(apiVersion), plural: found.name, namespaced: found.namespaced };
}

export function unknownKind({ apiVersion, kind }: ObjectKind, where: string): PgkitError {
  return new PgkitError("kube-missing", `${where} does not know the kind ${kind} of ${apiVersion}`, {
    hint: "is what brings this kind installed there, and in this version?",
  });
}

/** `/apis/apps/v1`; `/api/v1` for the core. */
export function groupPath(apiVersion: string): string {
  return apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
}

export function groupOf(apiVersion: string): string {
  return apiVersion.includes("/") ? (apiVersion.split("/")[0] ?? "") : "";
}

const plurals: Readonly<Record<string, string>> = {
  "v1/Secret": "secrets",
  "v1/ConfigMap": "configmaps",
  "v1/Pod": "pods",
  "v1/PersistentVolumeClaim": "persistentvolumeclaims",
  "v1/Service": "services",
  "v1/Namespace": "namespaces",
  "apps/v1/Deployment": "deployments",
  "apps/v1/StatefulSet": "statefulsets",
  "apps/v1/DaemonSet": "daemonsets",
  "apps/v1/ReplicaSet": "replicasets",
  "batch/v1/Job": "jobs",
  "batch/v1/CronJob": "cronjobs",
  "coordination.k8s.io/v1/Lease": "leases",
};
