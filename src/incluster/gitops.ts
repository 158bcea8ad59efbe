import { type Kube, type KubeObject, nameOf, type ObjectRef } from "../kube/kube.ts";
import { type Owner, ownerOf } from "../kube/owner.ts";
import { waitFor } from "../kube/wait.ts";
import type { Workload } from "../kube/workloads.ts";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import type { Clock } from "../lib/time.ts";

/** What would scale a StatefulSet up again, and how it is kept from that. Journaled. */
export type Sync =
  /** Nobody does by itself. */
  | { readonly type: "none"; readonly who?: string }
  | { readonly type: "argocd"; readonly ref: ObjectRef; readonly automated: object }
  | { readonly type: "flux"; readonly ref: ObjectRef }
  /** It does, and pgkit cannot keep it from that. */
  | { readonly type: "unknown"; readonly who: string; readonly because: string; readonly instruction: string };

/** Where ArgoCD has its Applications. */
const argocdNamespaces = ["argocd", "openshift-gitops"];
const argocdVersion = "argoproj.io/v1alpha1";

interface Application extends KubeObject {
  readonly spec?: { readonly syncPolicy?: { readonly automated?: object | null } };
  readonly status?: { readonly operationState?: { readonly phase?: string } };
}

interface Suspendable extends KubeObject {
  readonly spec?: { readonly suspend?: boolean };
}

/** Who manages the StatefulSet, by what is written on it, and whether it does so by itself at the moment. */
export async function findSync(kube: Kube, server: Workload, signal: AbortSignal): Promise<Sync> {
  const owner = ownerOf({ ...server, apiVersion: "apps/v1", kind: "StatefulSet" });
  // Who upgrades a Helm release by hand would scale it up too; nothing does by itself.
  if (owner === undefined || owner.type === "helm") return { type: "none", ...(owner && { who: owner.who }) };
  if (owner.type === "argocd") return argocdSync(kube, server, owner, signal);
  if (owner.type === "flux") return fluxSync(kube, owner, signal);
  const instruction = `pause ${owner.who}, restore, and let it go on`;
  return { type: "unknown", who: owner.who, because: "it is no GitOps tool that pgkit can pause", instruction };
}

/** Changes nothing where that is done. */
export async function pauseSync(kube: Kube, sync: Sync, clock: Clock, signal: AbortSignal): Promise<void> {
  if (sync.type === "argocd") {
    await kube.patch(sync.ref, { merge: { spec: { syncPolicy: { automated: null } } } }, signal);
    const until = (app: Application | undefined) =>
      app?.status?.operationState?.phase === "Running" ? { waiting: "its sync to end" } : { done: true };
    await waitFor<Application, boolean>(kube, sync.ref, { until, withinMs: 300_000, clock }, signal);
  }
  if (sync.type === "flux") await kube.patch(sync.ref, { merge: { spec: { suspend: true } } }, signal);
}

/** As it was before `pauseSync`; twice is once, and what somebody has set meanwhile stays. */
export async function resumeSync(kube: Kube, sync: Sync, signal: AbortSignal): Promise<void> {
  if (sync.type === "argocd") {
    const app = await kube.get<Application>(sync.ref, signal);
    if (app === undefined || (app.spec?.syncPolicy?.automated ?? undefined) !== undefined) return;
    await kube.patch(sync.ref, { merge: { spec: { syncPolicy: { automated: sync.automated } } } }, signal);
  }
  if (sync.type === "flux") await kube.patch(sync.ref, { merge: { spec: { suspend: false } } }, signal);
}

export async function isPaused(kube: Kube, sync: Sync, signal: AbortSignal): Promise<boolean> {
  if (sync.type === "argocd") {
    const app = await kube.get<Application>(sync.ref, signal);
    return app === undefined || (app.spec?.syncPolicy?.automated ?? undefined) === undefined;
  }
  if (sync.type === "flux") return (await kube.get<Suspendable>(sync.ref, signal))?.spec?.suspend === true;
  return true;
}

/** What is paused, in words; `undefined` where nothing is. */
export function syncText(sync: Sync): string | undefined {
  if (sync.type === "argocd") return `the automated sync of ArgoCD application ${sync.ref.namespace}/${sync.ref.name}`;
  if (sync.type === "flux") return `Flux ${nameOf(sync.ref)}`;
  return undefined;
}

/** Fails with `restore-refused` and the exact instruction where something would scale it up that pgkit cannot pause. */
export function assertPausable(sync: Sync, server: string, isOverridden: boolean): void {
  if (sync.type !== "unknown" || isOverridden) return;
  throw new PgkitError(
    "restore-refused",
    `${sync.who} manages ${server}, and would scale it up again: ${sync.because}`,
    {
      hint: `${sync.instruction}; then run this again with --override-gitops`,
    },
  );
}

async function argocdSync(kube: Kube, server: Workload, { who }: Owner, signal: AbortSignal): Promise<Sync> {
  const full = who.replace("ArgoCD application ", "");
  // Outside of ArgoCD's own namespace an Application is tracked as NAMESPACE_NAME.
  const [, of, bare] = /^([^_]+)_(.+)$/.exec(full) ?? [];
  const name = bare ?? full;
  const instruction = `argocd app set ${full} --sync-policy none (and when all is done: --sync-policy automated)`;
  const unknown = (because: string): Sync => ({ type: "unknown", who, because, instruction });
  if (!/^[a-z0-9][a-z0-9.-]*$/.test(name)) return unknown("its name is not written on the StatefulSet");
  const namespaces = of === undefined ? [...argocdNamespaces, server.metadata.namespace ?? ""] : [of];
  let refused: string | undefined;
  for (const namespace of new Set(namespaces)) {
    const ref = { apiVersion: argocdVersion, kind: "Application", namespace, name };
    const found = await lookUp<Application>(kube, ref, signal);
    if (typeof found === "string") refused ??= found;
    if (typeof found === "string" || found === undefined) continue;
    const automated = found.spec?.syncPolicy?.automated ?? undefined;
    if (automated === undefined) return { type: "none", who };
    const parent = ownerOf({ ...found, kind: "Application", apiVersion: argocdVersion });
    if (parent !== undefined)
      return unknown(`the application is itself managed by ${parent.who}, which would put it back`);
    return { type: "argocd", ref, automated };
  }
  return unknown(refused ?? `there is no such application in ${[...new Set(namespaces)].join(", ")}`);
}

/** Versions that are served, newest first. */
const fluxVersions = {
  Kustomization: ["kustomize.toolkit.fluxcd.io/v1", "kustomize.toolkit.fluxcd.io/v1beta2"],
  HelmRelease: ["helm.toolkit.fluxcd.io/v2", "helm.toolkit.fluxcd.io/v2beta2"],
};

async function fluxSync(kube: Kube, { who }: Owner, signal: AbortSignal): Promise<Sync> {
  const [, kind = "", namespace = "", name = ""] = /^Flux (\w+) ([^/]+)\/(.+)$/.exec(who) ?? [];
  const words = kind === "HelmRelease" ? "helmrelease" : "kustomization";
  const instruction = `flux suspend ${words} ${name} -n ${namespace} (and when all is done: flux resume ...)`;
  let refused: string | undefined;
  for (const apiVersion of fluxVersions[kind === "HelmRelease" ? "HelmRelease" : "Kustomization"]) {
    const ref = { apiVersion, kind, namespace, name };
    const found = await lookUp<Suspendable>(kube, ref, signal);
    if (typeof found === "string") refused ??= found;
    if (typeof found === "string" || found === undefined) continue;
    return found.spec?.suspend === true ? { type: "none", who } : { type: "flux", ref };
  }
  return { type: "unknown", who, because: refused ?? "it is not there", instruction };
}

/** The object, `undefined` where there is none or not even its kind, or why it may not be looked at. */
async function lookUp<T extends KubeObject>(
  kube: Kube,
  ref: ObjectRef,
  signal: AbortSignal,
): Promise<T | string | undefined> {
  try {
    const found = await kube.get<T>(ref, signal);
    if (found === undefined) return undefined;
    const right = { verb: "patch", ...resourceOf(ref), namespace: ref.namespace ?? "" };
    return (await kube.allows(right, signal)) ? found : `this account may not patch the ${nameOf(ref)}`;
  } catch (error) {
    if (isPgkitError(error, "kube-missing")) return undefined;
    if (isPgkitError(error, "kube-denied")) return error.message;
    throw error;
  }
}

function resourceOf({ apiVersion, kind }: ObjectRef): { group: string; resource: string } {
  return { group: apiVersion.split("/")[0] ?? "", resource: `${kind.toLowerCase()}s` };
}
