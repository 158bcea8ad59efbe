import type { Workload } from "./workloads.ts";

/** How far the Pods of a workload are those of its newest template. */
export type Rollout =
  | { readonly type: "done" }
  | { readonly type: "waiting"; readonly for: string }
  /** The controller itself has given up. */
  | { readonly type: "stuck"; readonly because: string };

/** As `kubectl rollout status` decides it. Pure. */
export function rolloutOf(workload: Workload): Rollout {
  const { spec, status, metadata } = workload;
  if ((status?.observedGeneration ?? 0) < (metadata.generation ?? 0))
    return waiting("the controller to see the change");
  if (workload.kind === "DaemonSet") return daemonSet(workload);
  const wanted = spec?.replicas ?? 1;
  const updated = status?.updatedReplicas ?? 0;
  if (workload.kind === "StatefulSet") return statefulSet(workload, wanted);
  const failed = status?.conditions?.find(
    ({ type, reason }) => type === "Progressing" && reason === "ProgressDeadlineExceeded",
  );
  if (failed !== undefined) return { type: "stuck", because: failed.message ?? "it exceeded its progress deadline" };
  if (updated < wanted) return waiting(`${updated} of ${wanted} replicas to be updated`);
  const old = (status?.replicas ?? 0) - updated;
  if (old > 0) return waiting(`${old} old replicas to end`);
  const available = status?.availableReplicas ?? 0;
  if (available < updated) return waiting(`${available} of ${updated} updated replicas to be available`);
  return { type: "done" };
}

function statefulSet({ spec, status }: Workload, wanted: number): Rollout {
  if (spec?.updateStrategy?.type === "OnDelete") {
    return {
      type: "stuck",
      because: "its updateStrategy is OnDelete: its Pods are replaced only when somebody deletes them",
    };
  }
  const ready = status?.readyReplicas ?? 0;
  if (ready < wanted) return waiting(`${ready} of ${wanted} Pods to be ready`);
  const updated = status?.updatedReplicas ?? 0;
  const due = Math.max(0, wanted - (spec?.updateStrategy?.rollingUpdate?.partition ?? 0));
  if (status?.updateRevision !== status?.currentRevision && updated < due) {
    return waiting(`${updated} of ${due} Pods to be updated`);
  }
  return { type: "done" };
}

function daemonSet({ spec, status }: Workload): Rollout {
  if (spec?.updateStrategy?.type === "OnDelete") {
    return {
      type: "stuck",
      because: "its updateStrategy is OnDelete: its Pods are replaced only when somebody deletes them",
    };
  }
  const wanted = status?.desiredNumberScheduled ?? 0;
  const updated = status?.updatedNumberScheduled ?? 0;
  if (updated < wanted) return waiting(`${updated} of ${wanted} Pods to be updated`);
  const available = status?.numberAvailable ?? 0;
  if (available < wanted) return waiting(`${available} of ${wanted} Pods to be available`);
  return { type: "done" };
}

function waiting(what: string): Rollout {
  return { type: "waiting", for: what };
}
