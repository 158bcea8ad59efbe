import type { Kube, KubeObject, Manifest, ObjectRef } from "../kube/kube.ts";

/** A PersistentVolumeClaim; of its spec what a like one needs. */
export interface Claim extends KubeObject {
  readonly spec?: {
    readonly accessModes?: readonly string[];
    readonly storageClassName?: string;
    readonly volumeMode?: string;
    readonly resources?: { readonly requests?: { readonly storage?: string } };
  };
  readonly status?: { readonly phase?: string; readonly capacity?: { readonly storage?: string } };
}

export function claimRef(namespace: string, name: string): ObjectRef {
  return { apiVersion: "v1", kind: "PersistentVolumeClaim", namespace, name };
}

export async function readClaim(kube: Kube, namespace: string, name: string, signal: AbortSignal) {
  return kube.get<Claim>(claimRef(namespace, name), signal);
}

/** What makes another claim of its kind, size and labels. */
export interface ClaimLike {
  readonly labels: Readonly<Record<string, string>>;
  readonly spec: NonNullable<Claim["spec"]>;
}

/** Of at least `bytes`. Pure. */
export function likeOf({ metadata, spec = {}, status }: Claim, bytes = 0): ClaimLike {
  const { accessModes = ["ReadWriteOnce"], storageClassName, volumeMode, resources } = spec;
  const sizes = [status?.capacity?.storage, resources?.requests?.storage].flatMap((text) =>
    text === undefined ? [] : [{ text, bytes: quantityBytes(text) }],
  );
  const biggest = sizes.toSorted((a, b) => b.bytes - a.bytes)[0];
  const storage = biggest !== undefined && biggest.bytes >= bytes ? biggest.text : String(Math.ceil(bytes));
  return {
    labels: metadata.labels ?? {},
    spec: {
      accessModes,
      ...(storageClassName === undefined ? {} : { storageClassName }),
      ...(volumeMode === undefined ? {} : { volumeMode }),
      resources: { requests: { storage } },
    },
  };
}

export function claimManifest(
  { namespace, name }: { namespace: string; name: string },
  { labels, spec }: ClaimLike,
  more: { annotations?: Readonly<Record<string, string>>; snapshot?: string } = {},
): Manifest {
  const { annotations, snapshot } = more;
  const apiGroup = "snapshot.storage.k8s.io";
  const dataSource = snapshot === undefined ? {} : { dataSource: { apiGroup, kind: "VolumeSnapshot", name: snapshot } };
  return {
    apiVersion: "v1",
    kind: "PersistentVolumeClaim",
    metadata: { name, namespace, labels, ...(annotations === undefined ? {} : { annotations }) },
    spec: { ...spec, ...dataSource },
  };
}

/** `20Gi`, `1.5T`, `1e9`: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/ */
export function quantityBytes(text: string): number {
  const [, digits = "", unit = ""] = /^([\d.]+(?:[eE][+-]?\d+)?)([EPTGMk]i?|Ki|m)?$/.exec(text) ?? [];
  const number = Number(digits);
  if (unit === "m") return number / 1000;
  const power = ["", "k", "M", "G", "T", "P", "E"].findIndex(
    (each) => each.toLowerCase() === unit.slice(0, 1).toLowerCase(),
  );
  return number * (unit.endsWith("i") ? 1024 : 1000) ** Math.max(0, power);
}
