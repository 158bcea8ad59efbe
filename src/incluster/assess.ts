import type { Workload } from "../kube/workloads.ts";
import { formatBytes } from "../lib/parse.ts";
import { type Claim, quantityBytes } from "./claim.ts";
import type { VolumeRestoreFacts } from "./facts.ts";
import type { Sync } from "./gitops.ts";

/** Something that the plan must say before anything is changed. */
export interface Risk {
  /** A refusal ends the restore before it begins. */
  readonly level: "refusal" | "warning";
  readonly message: string;
  readonly hint: string;
}

/** All that is known before. */
export interface Findings {
  readonly restore: Pick<
    VolumeRestoreFacts,
    "namespace" | "statefulSet" | "instance" | "volume" | "keepOld" | "overrideGitops"
  >;
  readonly server: Workload;
  readonly claim: Claim | undefined;
  readonly sync: Sync;
  /** Of CronJobs of `pgkit manifests` for this instance. */
  readonly hasBaseJob: boolean;
  /** Of what is restored, and about of what is there. */
  readonly restoredBytes: number;
  readonly oldBytes: number;
  /** Places of tablespaces, outside of the data directory. */
  readonly tablespaces: readonly string[];
  /** False: it is restored beside, and the server is left alone. */
  readonly inPlace: boolean;
}

/** What speaks against a restore. Pure. */
export function assess(found: Findings): Risk[] {
  return [
    ...(found.inPlace ? [...replicaRisks(found), ...syncRisks(found), ...placeRisks(found)] : []),
    ...jobRisks(found),
    ...spaceRisks(found),
    ...tablespaceRisks(found),
  ];
}

function replicaRisks({ restore, server }: Findings): Risk[] {
  const replicas = server.spec?.replicas ?? 1;
  if (replicas <= 1) return [];
  const message = `StatefulSet ${restore.namespace}/${restore.statefulSet} has ${replicas} replicas, and only one volume would be restored`;
  const hint =
    "scale it to the primary alone, restore, and let the replicas be made anew: delete their volume claims before you scale up again";
  return [{ level: "refusal", message, hint }];
}

function syncRisks({ restore, sync }: Findings): Risk[] {
  if (sync.type === "none" || sync.type === "argocd" || sync.type === "flux") return [];
  const message = `${sync.who} manages StatefulSet ${restore.statefulSet} and would scale it up again: ${sync.because}`;
  const hint = `${sync.instruction}; then run this again with --override-gitops`;
  return [{ level: restore.overrideGitops ? "warning" : "refusal", message, hint }];
}

function placeRisks({ restore }: Findings): Risk[] {
  if (!restore.volume.isRoot || restore.keepOld === "snapshot") return [];
  const message = `the data directory ${restore.volume.dataDir} is the root of volume ${restore.volume.claim}, which cannot be renamed`;
  return [{ level: "refusal", message, hint: "--keep-old snapshot keeps the old data by a VolumeSnapshot" }];
}

function jobRisks({ restore, hasBaseJob }: Findings): Risk[] {
  if (hasBaseJob) return [];
  const message = `there is no CronJob for base backups of ${restore.instance} in namespace ${restore.namespace}, by which pgkit would run there`;
  const hint =
    "give the instance schedule.base, and apply what pgkit manifests renders into the namespace of the server";
  return [{ level: "refusal", message, hint }];
}

/** Only what cannot fit is refused: how much is used is not known from outside. */
function spaceRisks({ restore, claim, restoredBytes, oldBytes, inPlace }: Findings): Risk[] {
  const { namespace, volume } = restore;
  if (claim === undefined) {
    const message = `there is no volume claim ${namespace}/${volume.claim}`;
    return [
      {
        level: "refusal",
        message,
        hint: "has the StatefulSet ever run? say where its data is, by instances.NAME.kubernetes",
      },
    ];
  }
  const text = claim.status?.capacity?.storage ?? claim.spec?.resources?.requests?.storage;
  const bytes = text === undefined ? undefined : quantityBytes(text);
  if (bytes === undefined || !inPlace) return [];
  const needed = restoredBytes + (restore.keepOld === "rename" ? oldBytes : 0);
  if (needed <= bytes) return [];
  const both = restore.keepOld === "rename" ? `, and about ${formatBytes(oldBytes)} are there` : "";
  const message = `volume ${volume.claim} has ${formatBytes(bytes)}; ${formatBytes(restoredBytes)} are to be restored${both}`;
  const hint = "enlarge the claim, or --keep-old snapshot, or --to-new-pvc NAME";
  return [{ level: "refusal", message, hint }];
}

function tablespaceRisks({ tablespaces }: Findings): Risk[] {
  if (tablespaces.length === 0) return [];
  const message = `the instance has tablespaces outside of its data directory: ${tablespaces.join(", ")}`;
  const hint = "restore it by hand, in a Pod with all of its volumes: pgkit restore --data-dir, with --tablespace";
  return [{ level: "refusal", message, hint }];
}
