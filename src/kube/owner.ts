import { type KubeObject, nameOf } from "./kube.ts";

/** Who has an object in hand, so that a change by another is put back, at once or at its next turn. */
export interface Owner {
  readonly type: "argocd" | "flux" | "helm" | "sealed-secret" | "external-secret" | "controller";
  /** `ArgoCD application litellm`. */
  readonly who: string;
  /** What to do instead, as a sentence without its end. */
  readonly commit: string;
}

/** The owner by what it writes into what it owns; `undefined` where nothing is written. Pure. */
export function ownerOf(object: KubeObject): Owner | undefined {
  return byReference(object) ?? argocd(object) ?? flux(object) ?? helm(object);
}

function byReference({ metadata, ...object }: KubeObject): Owner | undefined {
  const references = metadata.ownerReferences ?? [];
  const owner = references.find(({ controller }) => controller === true) ?? references[0];
  if (owner === undefined) return undefined;
  const what = nameOf({ kind: owner.kind, namespace: metadata.namespace, name: owner.name });
  if (owner.kind === "SealedSecret") {
    const commit = `seal the new value with kubeseal and commit the ${what}`;
    return { type: "sealed-secret", who: what, commit };
  }
  if (owner.kind === "ExternalSecret" || owner.kind === "ClusterExternalSecret") {
    const commit = `change the value in the secret store that the ${what} reads`;
    return { type: "external-secret", who: what, commit };
  }
  return { type: "controller", who: what, commit: `change the ${what}, which makes this ${object.kind}` };
}

/** https://argo-cd.readthedocs.io/en/stable/user-guide/resource_tracking/ */
function argocd({ metadata, kind }: KubeObject): Owner | undefined {
  const { labels = {}, annotations = {}, managedFields = [] } = metadata;
  const tracking = annotations["argocd.argoproj.io/tracking-id"]?.split(":")[0];
  const isManaged = managedFields.some(({ manager }) => /^argocd-/.test(manager ?? ""));
  // Helm and others set the common label too; only what ArgoCD itself has written makes it ArgoCD's.
  const label = labels["argocd.argoproj.io/instance"] ?? (isManaged ? labels["app.kubernetes.io/instance"] : undefined);
  const name = tracking ?? label ?? (isManaged ? "of unknown name" : undefined);
  if (name === undefined) return undefined;
  return {
    type: "argocd",
    who: `ArgoCD application ${name}`,
    commit: `commit the ${kind} where ArgoCD application ${name} reads it`,
  };
}

/** https://fluxcd.io/flux/components/kustomize/kustomizations/ */
function flux({ metadata, kind }: KubeObject): Owner | undefined {
  for (const of of ["kustomize", "helm"]) {
    const name = metadata.labels?.[`${of}.toolkit.fluxcd.io/name`];
    if (name === undefined) continue;
    const namespace = metadata.labels?.[`${of}.toolkit.fluxcd.io/namespace`] ?? "flux-system";
    const who = `Flux ${of === "helm" ? "HelmRelease" : "Kustomization"} ${namespace}/${name}`;
    return { type: "flux", who, commit: `commit the ${kind} where ${who} reads it` };
  }
  return undefined;
}

function helm({ metadata, kind }: KubeObject): Owner | undefined {
  const release = metadata.annotations?.["meta.helm.sh/release-name"];
  if (release === undefined && metadata.labels?.["app.kubernetes.io/managed-by"] !== "Helm") return undefined;
  const namespace = metadata.annotations?.["meta.helm.sh/release-namespace"] ?? metadata.namespace ?? "default";
  const who = `Helm release ${namespace}/${release ?? metadata.labels?.["app.kubernetes.io/instance"] ?? "of unknown name"}`;
  return { type: "helm", who, commit: `set it in the values of the ${who}, or its next upgrade puts the ${kind} back` };
}
