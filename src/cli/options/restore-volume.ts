import { option } from "./option.ts";
import * as value from "./values.ts";

/** Flags of `pgkit restore --in-kubernetes INSTANCE`. */
export const restoreVolumeOptions = {
  keepOld: option(value.choice("rename", "snapshot"), {
    flag: "--keep-old <how>",
    default: "rename" as const,
    doc: "what becomes of an instance's old data in the cluster: renamed on its volume, or kept by a VolumeSnapshot",
  }),
  toNewPvc: option(value.dnsLabel, {
    flag: "--to-new-pvc <name>",
    doc: "restore an instance to a new volume claim beside, and leave its server alone",
  }),
  rollback: option(value.yesOrNo, {
    flag: "--rollback",
    default: false,
    doc: "undo the restore of an instance in the cluster: its old data is back",
  }),
  finish: option(value.yesOrNo, {
    flag: "--finish",
    default: false,
    doc: "remove what a completed restore of an instance in the cluster has kept",
  }),
  status: option(value.yesOrNo, {
    flag: "--status",
    default: false,
    doc: "show how far the restore of an instance in the cluster is",
  }),
};
