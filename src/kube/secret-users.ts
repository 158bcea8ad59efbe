import type { Kube, ObjectKind } from "./kube.ts";
import type { Container, CronJob, PodSpec, Workload } from "./workloads.ts";

/** What reads a Secret. */
export interface SecretUsers {
  /** Those whose Pods must be replaced to see a change. */
  readonly workloads: readonly { readonly workload: Workload; readonly by: readonly string[] }[];
  /** Names of CronJobs: their next run sees it. */
  readonly cronJobs: readonly string[];
}

const kinds: readonly ObjectKind[] = [
  { apiVersion: "apps/v1", kind: "Deployment" },
  { apiVersion: "apps/v1", kind: "StatefulSet" },
  { apiVersion: "apps/v1", kind: "DaemonSet" },
];

/** Everything in the Secret's namespace that reads it; nothing outside can. In the order of kind and name. */
export async function usersOfSecret(
  kube: Kube,
  { namespace, name }: { readonly namespace: string; readonly name: string },
  signal: AbortSignal,
): Promise<SecretUsers> {
  const [lists, cronJobs] = await Promise.all([
    Promise.all(kinds.map((kind) => kube.list<Workload>(kind, { namespace }, signal))),
    kube.list<CronJob>({ apiVersion: "batch/v1", kind: "CronJob" }, { namespace }, signal),
  ]);
  const workloads = lists
    .flatMap(({ objects }) => objects)
    .map((workload) => ({ workload, by: usesOfSecret(workload.spec?.template?.spec, name) }))
    .filter(({ by }) => by.length > 0);
  const named = cronJobs.objects
    .filter(({ spec }) => usesOfSecret(spec?.jobTemplate?.spec?.template?.spec, name).length > 0)
    .map(({ metadata }) => metadata.name);
  return { workloads, cronJobs: named };
}

/** The ways in which a Pod reads a Secret, such as `env DATABASE_URL` and `volume config`. Pure. */
export function usesOfSecret(spec: PodSpec | undefined, secret: string): string[] {
  const containers = [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])];
  const volumes = (spec?.volumes ?? [])
    .filter(
      (volume) =>
        volume.secret?.secretName === secret ||
        volume.projected?.sources?.some((source) => source.secret?.name === secret) === true,
    )
    .map(({ name }) => `volume ${name}`);
  return [...new Set([...containers.flatMap((each) => usesOfContainer(each, secret)), ...volumes])];
}

function usesOfContainer({ env = [], envFrom = [] }: Container, secret: string): string[] {
  const one = env.filter(({ valueFrom }) => valueFrom?.secretKeyRef?.name === secret).map(({ name }) => `env ${name}`);
  const all = envFrom.some(({ secretRef }) => secretRef?.name === secret) ? ["envFrom"] : [];
  return [...one, ...all];
}
