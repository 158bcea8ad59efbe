import { waitFor } from "../kube/wait.ts";
import { type Claim, claimManifest, claimRef, readClaim } from "./claim.ts";
import type { RestoreContext } from "./facts.ts";
import { keptName } from "./names.ts";
import { keepOldStep } from "./steps/keep-old.ts";

/** On a claim that was made of the snapshot of this restore. */
const madeOf = "pgkit.dev/made-of";

/**
 * Puts a claim made of the snapshot in the place of the one that was restored to, which goes with its volume. Twice is once;
 * killed between, it goes on. The StatefulSet must be at 0.
 */
export async function putBackClaim(context: RestoreContext): Promise<void> {
  const { kube, restore, clock, patience, signal, report } = context;
  const { namespace, volume } = restore;
  const kept = context.planOf(keepOldStep);
  if (kept === undefined || context.resultOf(keepOldStep) === undefined) return;
  const snapshot = keptName(restore);
  const there = await readClaim(kube, namespace, volume.claim, signal);
  if (there?.metadata.annotations?.[madeOf] === snapshot) return;
  if (there !== undefined) {
    report({ type: "note", message: `making volume claim ${volume.claim} anew of VolumeSnapshot ${snapshot}` });
    const ref = claimRef(namespace, volume.claim);
    await kube.delete(ref, { uid: there.metadata.uid }, signal);
    const until = (claim: Claim | undefined) =>
      claim === undefined ? { done: true } : { waiting: "it to go, which a Pod that uses it keeps it from" };
    await waitFor<Claim, boolean>(kube, ref, { until, withinMs: patience.podMs, clock }, signal);
  }
  const manifest = claimManifest({ namespace, name: volume.claim }, kept, {
    snapshot,
    annotations: { [madeOf]: snapshot },
  });
  await kube.create<Claim>(manifest, signal);
}
