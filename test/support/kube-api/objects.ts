/** A JSON object whose fields the server does not know beforehand. */
export interface Tree {
  [field: string]: unknown;
}

export interface Obj extends Tree {
  apiVersion: string;
  kind: string;
  metadata: Meta;
}

export interface Meta extends Tree {
  name: string;
  namespace?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  ownerReferences?: { apiVersion: string; kind: string; name: string; uid: string; controller?: boolean }[];
}

export interface Kind {
  apiVersion: string;
  kind: string;
  group: string;
  plural: string;
  namespaced: boolean;
}

export function isTree(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function tree(value: unknown): Tree {
  return isTree(value) ? value : {};
}

const kind = (apiVersion: string, name: string, plural: string, namespaced = true): Kind => ({
  ...{ apiVersion, kind: name, plural, namespaced },
  group: apiVersion.includes("/") ? (apiVersion.split("/")[0] ?? "") : "",
});

/** What this cluster has installed; tests add kinds of their own, as a CRD does. */
export function installedKinds(): Kind[] {
  return [
    kind("v1", "Secret", "secrets"),
    kind("v1", "ConfigMap", "configmaps"),
    kind("v1", "Pod", "pods"),
    kind("v1", "Service", "services"),
    kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    kind("v1", "Namespace", "namespaces", false),
    kind("apps/v1", "Deployment", "deployments"),
    kind("apps/v1", "StatefulSet", "statefulsets"),
    kind("apps/v1", "DaemonSet", "daemonsets"),
    kind("batch/v1", "Job", "jobs"),
    kind("batch/v1", "CronJob", "cronjobs"),
    kind("coordination.k8s.io/v1", "Lease", "leases"),
    kind("argoproj.io/v1alpha1", "Application", "applications"),
    kind("snapshot.storage.k8s.io/v1", "VolumeSnapshot", "volumesnapshots"),
  ];
}

/** What `pgkit manifests` renders besides. */
export function installPgkitKinds(api: { install(kind: Kind): void }): void {
  api.install(kind("v1", "ServiceAccount", "serviceaccounts"));
  api.install(kind("rbac.authorization.k8s.io/v1", "Role", "roles"));
  api.install(kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"));
  api.install(kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"));
  api.install(kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"));
}

/** What the server answers instead of an object. */
export class Refusal extends Error {
  readonly code: number;
  readonly reason: string;
  readonly details: Tree;

  constructor(code: number, reason: string, message: string, details: Tree = {}) {
    super(message);
    this.code = code;
    this.reason = reason;
    this.details = details;
  }

  status(): Tree {
    const { code, reason, message, details } = this;
    return { kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", message, reason, details, code };
  }
}
