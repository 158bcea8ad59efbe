import type { Kube, KubeObject } from "../kube/kube.ts";
import type { Workload } from "../kube/workloads.ts";
import { PgkitError } from "../lib/errors.ts";

const kind = { apiVersion: "apps/v1", kind: "StatefulSet" };

export interface ServerSearch {
  readonly instance: string;
  readonly namespace: string;
  /** Of the configuration: `postgresql`. */
  readonly statefulSet?: string | undefined;
  /** Of the instance's url: `postgresql`, `postgresql.databases.svc`. */
  readonly host: string;
}

/**
 * The StatefulSet of an instance: that which the configuration names, else that whose Pods are behind the Service of the
 * instance's url. Fails with `restore-refused`, naming those there are.
 */
export async function findServer(kube: Kube, search: ServerSearch, signal: AbortSignal): Promise<Workload> {
  const { namespace, statefulSet, instance } = search;
  if (statefulSet !== undefined) return readServer(kube, { namespace, name: statefulSet }, signal);
  const service = await serviceOf(kube, search, signal);
  const selector = Object.entries(service?.spec?.selector ?? {});
  const { objects } = await kube.list<Workload>(kind, { namespace }, signal);
  const fitting = objects.filter(({ spec }) =>
    selector.every(([key, value]) => spec?.template?.metadata?.labels?.[key] === value),
  );
  const [first, second] = selector.length === 0 ? [] : fitting;
  if (first !== undefined && second === undefined) return { ...kind, ...first };
  const names = (second === undefined ? objects : fitting).map(({ metadata }) => metadata.name).join(", ") || "none";
  const why =
    service === undefined ? `no Service ${search.host} is there` : `several or none are behind ${search.host}`;
  throw new PgkitError(
    "restore-refused",
    `which StatefulSet of namespace ${namespace} is instance ${instance}? ${why}`,
    {
      hint: `set instances.${instance}.kubernetes.statefulSet; there are: ${names}`,
    },
  );
}

/** Fails with `restore-refused` where there is none of this name. */
export async function readServer(
  kube: Kube,
  { namespace, name }: { namespace: string; name: string },
  signal: AbortSignal,
): Promise<Workload> {
  const found = await kube.get<Workload>({ ...kind, namespace, name }, signal);
  if (found !== undefined) return found;
  throw new PgkitError("restore-refused", `there is no StatefulSet ${namespace}/${name} in ${kube.where}`, {
    hint: "is its name in the configuration spelled right, and kubernetes.namespace?",
  });
}

interface Service extends KubeObject {
  readonly spec?: { readonly selector?: Readonly<Record<string, string>> };
}

async function serviceOf(kube: Kube, { host, namespace }: ServerSearch, signal: AbortSignal) {
  const [name = "", of = namespace] = host.split(".");
  if (of !== namespace || !/^[a-z][a-z0-9-]*$/.test(name)) return undefined;
  return kube.get<Service>({ apiVersion: "v1", kind: "Service", namespace, name }, signal);
}
