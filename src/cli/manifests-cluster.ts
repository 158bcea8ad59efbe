import { type Difference, manifestDifferences, type ObjectRef, refOf } from "../manifests/diff.ts";
import type { Manifest } from "../manifests/request.ts";

/** What of the Kubernetes API a comparison asks for: `Kube` has it. */
export interface ClusterReader {
  get(ref: ObjectRef, signal: AbortSignal): Promise<object | undefined>;
  list(
    kind: Pick<ObjectRef, "apiVersion" | "kind">,
    which: { readonly namespace: string; readonly labels: string },
    signal: AbortSignal,
  ): Promise<{ readonly objects: readonly object[] }>;
}

/** The kinds that are rendered, and looked for by their label. */
const ownKinds = [
  { apiVersion: "v1", kind: "ConfigMap" },
  { apiVersion: "v1", kind: "ServiceAccount" },
  { apiVersion: "rbac.authorization.k8s.io/v1", kind: "Role" },
  { apiVersion: "rbac.authorization.k8s.io/v1", kind: "RoleBinding" },
  { apiVersion: "networking.k8s.io/v1", kind: "NetworkPolicy" },
  { apiVersion: "policy/v1", kind: "PodDisruptionBudget" },
  { apiVersion: "batch/v1", kind: "CronJob" },
  { apiVersion: "apps/v1", kind: "StatefulSet" },
] as const;

/** Reads each rendered object, and all that carry pgkit's label in its namespace; compares. */
export async function differencesIn(
  cluster: ClusterReader,
  manifests: readonly Manifest[],
  namespace: string,
  signal: AbortSignal,
): Promise<Difference[]> {
  const there: (object | undefined)[] = [];
  for (const manifest of manifests) there.push(await cluster.get(refOf(manifest), signal));
  const labels = "app.kubernetes.io/managed-by=pgkit-manifests";
  const labelled: Manifest[] = [];
  for (const kind of ownKinds) {
    const { objects } = await cluster.list(kind, { namespace, labels }, signal);
    // A list's items need not say what they are.
    labelled.push(...objects.map((object) => ({ ...object, ...kind }) as unknown as Manifest));
  }
  return manifestDifferences(manifests, there, labelled);
}
