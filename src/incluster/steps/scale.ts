import type { ObjectRef } from "../../kube/kube.ts";
import type { Workload } from "../../kube/workloads.ts";
import { PgkitError } from "../../lib/errors.ts";
import { workloadName } from "../../manifests/names.ts";
import type { RestoreContext, Step } from "../facts.ts";
import { isReady, scaleTo, serverNow, serverPod, serverRef, waitUntilGone, waitUntilReady } from "../pods.ts";

/** As it was, to be again. */
export interface FormerScale {
  readonly replicas: number;
  /** Where its Pod ran; the volume is at hand there. */
  readonly node?: string | undefined;
  /** Of `pgkit wal stream`; `undefined`: the cluster has none for this instance. */
  readonly streamers?: number | undefined;
}

/** Nobody may write to the volume from here on but the restore. */
export const scaleDownStep: Step<FormerScale, undefined> = {
  name: "scale-down",
  does: "scales the StatefulSet to 0, then its WAL streamer, and waits until their Pods have gone",
  check: async (context) => {
    if (context.hasBegun("scale-up")) return "done";
    return (await isDown(context)) ? "done" : "todo";
  },
  prepare: async (context) => {
    const server = await serverNow(context);
    const node = (await serverPod(context, server))?.spec?.nodeName;
    // One that is down already is to be up when all is done.
    const streamers = (await streamerNow(context))?.spec?.replicas;
    return {
      replicas: server.spec?.replicas || 1,
      ...(node === undefined ? {} : { node }),
      ...(streamers === undefined ? {} : { streamers }),
    };
  },
  run: async (context) => {
    await goDown(context);
    return undefined;
  },
  verify: async (context) => {
    if (await isDown(context)) return;
    throw new PgkitError("kube-conflict", `StatefulSet ${context.restore.statefulSet} is being scaled up again`, {
      hint: "pause what does that (an autoscaler, GitOps, an operator), and run the same command again",
    });
  },
  undo: (context, former) => goUp(context, former),
};

export const scaleUpStep: Step<undefined, undefined> = {
  name: "scale-up",
  does: "scales both up as they were and waits until the server is ready",
  check: async (context) => {
    const server = await serverNow(context);
    const pod = await serverPod(context, server);
    const isUp = (server.spec?.replicas ?? 1) > 0 && pod !== undefined && isReady(pod);
    // It is up before the restore, too.
    return isUp && context.hasBegun("scale-up") ? "done" : "todo";
  },
  run: async (context) => {
    await goUp(context, context.planOf(scaleDownStep));
    return undefined;
  },
  verify: async () => undefined,
  undo: (context) => goDown(context),
};

async function isDown(context: RestoreContext): Promise<boolean> {
  const server = await serverNow(context);
  return server.spec?.replicas === 0 && (await serverPod(context, server)) === undefined;
}

/**
 * The server first, so that the streamer gets and stores the last of its WAL. What a streamer knows of the server's WAL then
 * belongs to a history that ends here: one that went on over a restore, or a way back, would take other WAL for stored.
 */
async function goDown(context: RestoreContext): Promise<void> {
  const server = await serverNow(context);
  if ((server.spec?.replicas ?? 1) > 0) await scaleTo(context, serverRef(context.restore), 0);
  await waitUntilGone(context, server);
  const streamer = await streamerNow(context);
  if (streamer === undefined) return;
  if ((streamer.spec?.replicas ?? 1) > 0) await scaleTo(context, streamerRef(context), 0);
  await waitUntilGone(context, streamer);
}

async function goUp(context: RestoreContext, former: FormerScale | undefined): Promise<void> {
  if (former === undefined) return;
  const server = await serverNow(context);
  if (server.spec?.replicas !== former.replicas) await scaleTo(context, serverRef(context.restore), former.replicas);
  await waitUntilReady(context, server);
  if (former.streamers === undefined) return;
  const streamer = await streamerNow(context);
  if (streamer !== undefined) await scaleTo(context, streamerRef(context), former.streamers);
}

async function streamerNow(context: RestoreContext): Promise<Workload | undefined> {
  return context.kube.get<Workload>(streamerRef(context), context.signal);
}

function streamerRef({ restore }: RestoreContext): ObjectRef {
  return { ...serverRef(restore), name: workloadName("stream", restore.instance) };
}
