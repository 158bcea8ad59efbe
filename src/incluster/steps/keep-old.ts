import type { KubeObject, ObjectRef } from "../../kube/kube.ts";
import { waitFor } from "../../kube/wait.ts";
import { isPgkitError, PgkitError } from "../../lib/errors.ts";
import { type ClaimLike, likeOf, readClaim } from "../claim.ts";
import type { RestoreContext, Step } from "../facts.ts";
import { keptName, restoreLabel } from "../names.ts";

interface VolumeSnapshot extends KubeObject {
  readonly status?: { readonly readyToUse?: boolean; readonly error?: { readonly message?: string } };
}

/** With `--keep-old snapshot`: the old data is what the volume holds now, and the restore goes over it. */
export const keepOldStep: Step<ClaimLike, string> = {
  name: "keep-old-data",
  does: "keeps the old data by a VolumeSnapshot, and waits until that is ready",
  check: async (context) => {
    if (context.resultOf(keepOldStep) !== undefined) return "done";
    const found = await context.kube.get<VolumeSnapshot>(snapshotRef(context), context.signal);
    return found?.status?.readyToUse === true ? "done" : found === undefined ? "todo" : "partial";
  },
  prepare: async ({ kube, restore, signal }) => {
    const claim = await readClaim(kube, restore.namespace, restore.volume.claim, signal);
    if (claim !== undefined) return likeOf(claim);
    throw new PgkitError("restore-refused", `there is no volume claim ${restore.namespace}/${restore.volume.claim}`);
  },
  run: async (context) => {
    const { kube, restore, signal, clock, patience } = context;
    const ref = snapshotRef(context);
    const { name, namespace, ...kind } = ref;
    const labels = { [restoreLabel]: restore.id.toLowerCase() };
    const spec = { source: { persistentVolumeClaimName: restore.volume.claim } };
    const metadata = { name, labels, ...(namespace === undefined ? {} : { namespace }) };
    await kube.create({ ...kind, metadata, spec }, signal).catch((error: unknown) => {
      // An earlier run made it.
      if (!isPgkitError(error, "kube-conflict")) throw error;
    });
    const until = (snapshot: VolumeSnapshot | undefined) =>
      snapshot?.status?.readyToUse === true
        ? { done: true }
        : { waiting: `it to be ready: ${snapshot?.status?.error?.message ?? "the driver says nothing of it yet"}` };
    await waitFor<VolumeSnapshot, boolean>(kube, ref, { until, withinMs: patience.podMs, clock }, signal);
    return name;
  },
  verify: async () => undefined,
  // What was put back may be made of it: it stays until somebody removes it.
  undo: async () => undefined,
};

export function snapshotRef({ restore }: Pick<RestoreContext, "restore">): ObjectRef {
  const { namespace } = restore;
  return { apiVersion: "snapshot.storage.k8s.io/v1", kind: "VolumeSnapshot", namespace, name: keptName(restore) };
}
