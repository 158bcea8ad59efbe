import type { Right } from "./rights.ts";

/** What names one object; without a namespace where its kind has none. */
export interface ObjectRef extends ObjectKind {
  readonly namespace?: string | undefined;
  readonly name: string;
}

export interface ObjectKind {
  /** `v1`, `apps/v1`. */
  readonly apiVersion: string;
  /** `Deployment`. */
  readonly kind: string;
}

export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly ownerReferences?: readonly OwnerReference[];
  readonly managedFields?: readonly ManagedFields[];
  /** RFC 3339. */
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
}

export interface OwnerReference extends ObjectKind {
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
}

export interface ManagedFields {
  readonly manager?: string;
  readonly operation?: string;
  readonly subresource?: string;
  readonly time?: string;
  /** `{ "f:data": { "f:url": {} } }` */
  readonly fieldsV1?: { readonly [field: string]: unknown };
}

/** An object as the API spells it. What is below `metadata` is the kind's own: see `workloads.ts` for those that pgkit reads. */
export interface KubeObject extends ObjectKind {
  readonly metadata: ObjectMeta;
}

/** An object to create or apply: as a manifest has it. */
export interface Manifest extends ObjectKind {
  readonly metadata: Partial<ObjectMeta> & { readonly name: string };
  readonly [field: string]: unknown;
}

export interface Selection {
  /** All namespaces where left out. */
  readonly namespace?: string | undefined;
  /** The one object of this name. */
  readonly name?: string | undefined;
  /** `app.kubernetes.io/name=pgkit`. */
  readonly labels?: string | undefined;
}

/** What is watched. */
export interface Watched extends Selection {
  /** As they were just seen: one that goes before the watch begins is told of as gone. */
  readonly known?: readonly KubeObject[] | undefined;
}

/** One that is there now, new or changed, or one that has gone, as it was last seen. */
export type Change<T> = { readonly type: "present" | "gone"; readonly object: T };

export type Patch =
  /** RFC 7396: null removes. */
  | { readonly merge: object }
  /** RFC 6902. */
  | { readonly json: readonly { readonly op: string; readonly path: string; readonly value?: unknown }[] };

/**
 * The Kubernetes API as plain data. Every call names verb, resource and namespace where it fails: with `kube-denied` and the
 * Role rule that is missing, `kube-unreachable` when nobody answers for as long as its patience lasts, `kube-conflict` where
 * the object is not as the caller last saw it, `kube-missing` where there is nothing to change, else `kube-failed`. Calls
 * answered by 429 or 5xx, and those whose answer was lost, are repeated.
 */
export interface Kube {
  /** For messages: `Kubernetes at https://10.0.0.1:6443 (context prod)`. */
  readonly where: string;
  /** The namespace of the context, or of the Pod that pgkit runs in. */
  readonly namespace: string;
  /** `undefined` only where the API said that this object is not there. */
  get<T extends KubeObject = KubeObject>(ref: ObjectRef, signal: AbortSignal): Promise<T | undefined>;
  /** All of them, across pages, as they were at one moment; and from where a watch goes on. */
  list<T extends KubeObject = KubeObject>(kind: ObjectKind, which: Selection, signal: AbortSignal): Promise<Listed<T>>;
  /** Fails with `kube-conflict` where one of this name is there. */
  create<T extends KubeObject = KubeObject>(manifest: Manifest, signal: AbortSignal): Promise<T>;
  /** Server-side apply as `pgkit`: made where it is absent. Fails with `kube-conflict`, naming the fields that others own, unless forced. */
  apply<T extends KubeObject = KubeObject>(
    manifest: Manifest,
    options: { readonly force?: boolean },
    signal: AbortSignal,
  ): Promise<T>;
  /** With `resourceVersion` only where the object is still that one. */
  patch<T extends KubeObject = KubeObject>(
    ref: ObjectRef,
    patch: Patch & { readonly resourceVersion?: string | undefined; readonly subresource?: "scale" | "status" },
    signal: AbortSignal,
  ): Promise<T>;
  /** False where the API said that it is not there. What it owns goes after it, or before it with `wait`. */
  delete(
    ref: ObjectRef,
    options: { readonly uid?: string | undefined; readonly propagation?: "background" | "foreground" | "orphan" },
    signal: AbortSignal,
  ): Promise<boolean>;
  /**
   * What is there, each as `present`, and from then on each change, until the signal: then it fails with its reason. A cut
   * stream is resumed, and what the API no longer knows (410) is listed anew: nothing is missed but what came and went.
   */
  watch<T extends KubeObject = KubeObject>(
    kind: ObjectKind,
    which: Watched,
    signal: AbortSignal,
  ): AsyncGenerator<Change<T>>;
  /**
   * Lines of a container's log as they come, until it has ended. A cut stream goes on with the next line. Fails with
   * `kube-missing` where the Pod is gone.
   */
  log(pod: PodContainer, signal: AbortSignal): AsyncGenerator<string>;
  /** Whether this account may do it, as the API says. */
  allows(right: Right, signal: AbortSignal): Promise<boolean>;
}

export interface PodContainer {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
}

export interface Listed<T> {
  readonly objects: readonly T[];
  readonly resourceVersion: string;
}

/** What pgkit is to server-side apply. */
export const fieldManager = "pgkit";

/** `Secret litellm/litellm-db`, for messages. */
export function nameOf({ kind, namespace, name }: { kind: string; namespace?: string | undefined; name: string }) {
  return namespace === undefined ? `${kind} ${name}` : `${kind} ${namespace}/${name}`;
}

/** What names this object. */
export function refOf({ apiVersion, kind, metadata }: Manifest | KubeObject): ObjectRef {
  return { apiVersion, kind, namespace: metadata.namespace, name: metadata.name };
}
