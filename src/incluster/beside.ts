import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { type Claim, claimManifest, likeOf, readClaim } from "./claim.ts";
import type { RestoreContext } from "./facts.ts";
import { runOnNewVolume } from "./run-volume-job.ts";
import { outputWords, resultIn, type VolumeResult } from "./steps/restore-volume.ts";

/** On a claim that a restore has made: what was restored to it. */
const restoredTo = "pgkit.dev/restored";

/**
 * Restores to a new volume claim, like that of the server and beside it; the server is left alone. Run again it goes on. Fails with
 * `refused-overwrite` where the claim is there, and not of this restore.
 */
export async function restoreBeside(context: RestoreContext, restoredBytes: number): Promise<VolumeResult> {
  const { restore, report } = context;
  await claimFor(context, restoredBytes);
  const { instance, volume, words } = restore;
  report({ type: "note", message: `restoring to volume claim ${restore.namespace}/${volume.claim}` });
  // Over what an earlier run left there: the volume is this restore's own.
  const args = ["restore", "--instance", instance, "--data-dir", volume.dataDir, "--delta", ...words];
  return resultIn(await runOnNewVolume(context, [...args, "--start", "--without-archiving", ...outputWords]));
}

async function claimFor({ kube, restore, signal }: RestoreContext, bytes: number): Promise<void> {
  const { namespace, volume, words, statefulSet } = restore;
  const is = words.join(" ");
  const there = await readClaim(kube, namespace, volume.claim, signal);
  if (there?.metadata.annotations?.[restoredTo] === is) return;
  if (there !== undefined) {
    throw new PgkitError(
      "refused-overwrite",
      `there is a volume claim ${namespace}/${volume.claim}, of something else`,
      {
        hint: "name another: --to-new-pvc NAME",
      },
    );
  }
  const old = restore.oldClaim === undefined ? undefined : await readClaim(kube, namespace, restore.oldClaim, signal);
  if (old === undefined) {
    throw new PgkitError(
      "restore-refused",
      `StatefulSet ${namespace}/${statefulSet} has no volume claim to make one like`,
    );
  }
  // Recovery needs room for WAL besides.
  const manifest = claimManifest({ namespace, name: volume.claim }, likeOf(old, bytes * 1.2), {
    annotations: { [restoredTo]: is },
  });
  await kube.create<Claim>(manifest, signal).catch((error: unknown) => {
    if (!isPgkitError(error, "kube-conflict")) throw error;
  });
}
