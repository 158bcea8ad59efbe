import type { Kube } from "../kube/kube.ts";
import { type Right, ruleOf } from "../kube/rights.ts";
import { PgkitError } from "../lib/errors.ts";
import type { VolumeRestoreFacts } from "./facts.ts";

type Needs = Pick<VolumeRestoreFacts, "namespace" | "keepOld"> & { readonly scales: boolean };

/** What the person who restores must be allowed to do; what manages the server is asked for where it is found. */
export function neededRights({ namespace, keepOld, scales }: Needs): Right[] {
  const of = (group: string, resource: string, verbs: readonly string[], subresource?: string): Right[] =>
    verbs.map((verb) => ({
      ...{ verb, group, resource, namespace },
      ...(subresource === undefined ? {} : { subresource }),
    }));
  const snapshots = keepOld === "snapshot" && scales;
  return [
    ...of("apps", "statefulsets", ["get", "list", "watch"]),
    ...(scales ? of("apps", "statefulsets", ["patch"], "scale") : []),
    ...of("", "pods", ["get", "list", "watch"]),
    ...of("", "pods", ["get"], "log"),
    ...of("", "persistentvolumeclaims", ["get", ...(scales && !snapshots ? [] : ["create"])]),
    ...(snapshots ? of("", "persistentvolumeclaims", ["list", "watch", "delete"]) : []),
    ...of("batch", "cronjobs", ["get"]),
    ...of("batch", "jobs", ["get", "list", "watch", "create", "delete"]),
    ...(snapshots
      ? of("snapshot.storage.k8s.io", "volumesnapshots", ["get", "list", "watch", "create", "delete"])
      : []),
  ];
}

/** Fails with `kube-denied`, naming all rules that are missing at once. */
export async function assertRights(kube: Kube, needs: Needs, signal: AbortSignal): Promise<void> {
  const rights = neededRights(needs);
  const allowed = await Promise.all(rights.map((right) => kube.allows(right, signal)));
  const missing = rights.filter((_, index) => allowed[index] !== true);
  if (missing.length === 0) return;
  const rules = new Map<string, { right: Right; verbs: string[] }>();
  for (const right of missing) {
    const key = `${right.group}/${right.resource}/${right.subresource ?? ""}`;
    const rule = rules.get(key) ?? { right, verbs: [] };
    rule.verbs.push(right.verb);
    rules.set(key, rule);
  }
  const lines = [...rules.values()].map(({ right, verbs }) => ruleOf(right, verbs));
  const what = missing.map(
    ({ verb, resource, subresource }) => `${verb} ${resource}${subresource ? `/${subresource}` : ""}`,
  );
  throw new PgkitError(
    "kube-denied",
    `may not do what the restore needs in namespace ${needs.namespace}: ${what.join(", ")}`,
    {
      hint: `add to a Role in namespace ${needs.namespace} that is bound to this account: ${lines.join(" ")}`,
    },
  );
}
