import { has, kindsIn, ownLabels, serviceAccountName } from "./names.ts";
import { asksApi } from "./pod.ts";
import type { JobKind, Manifest, ManifestsRequest } from "./request.ts";

/** A ServiceAccount for each kind of job, and the Roles of those that read a password from a Secret. */
export function access(request: ManifestsRequest): Manifest[] {
  const kinds = kindsIn(request);
  return [...kinds.map((kind) => serviceAccount(request, kind)), ...kinds.flatMap((kind) => roles(request, kind))];
}

function serviceAccount({ namespace, serviceAccountAnnotations }: ManifestsRequest, kind: JobKind): Manifest {
  const annotations =
    Object.keys(serviceAccountAnnotations).length === 0 ? {} : { annotations: serviceAccountAnnotations };
  return {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: { name: serviceAccountName(kind), namespace, labels: labelsOf(kind), ...annotations },
    // Only a Pod that needs one asks for it.
    automountServiceAccountToken: false,
  };
}

/** In each namespace that has Secrets of this kind's instances: to get those, by name, and no more. */
function roles({ namespace: home, instances }: ManifestsRequest, kind: JobKind): Manifest[] {
  const secrets = instances
    .filter((instance) => has(instance, kind) && asksApi(kind, instance))
    .flatMap(({ password }) => (password?.type === "secret" ? [password.secret] : []));
  const namespaces = [...new Set(secrets.map(({ namespace }) => namespace))].sort();
  return namespaces.flatMap((namespace) => {
    const named = secrets.filter((secret) => secret.namespace === namespace).map(({ name }) => name);
    const name = serviceAccountName(kind);
    const metadata = { name, namespace, labels: labelsOf(kind) };
    const resourceNames = [...new Set(named)].sort();
    return [
      {
        ...{ apiVersion: "rbac.authorization.k8s.io/v1", kind: "Role", metadata },
        rules: [{ apiGroups: [""], resources: ["secrets"], resourceNames, verbs: ["get"] }],
      },
      {
        ...{ apiVersion: "rbac.authorization.k8s.io/v1", kind: "RoleBinding", metadata },
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name },
        subjects: [{ kind: "ServiceAccount", name, namespace: home }],
      },
    ];
  });
}

function labelsOf(kind: JobKind) {
  return { ...ownLabels, "app.kubernetes.io/component": kind };
}
