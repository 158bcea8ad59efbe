import { option } from "./option.ts";
import * as value from "./values.ts";

/** Flags of what can run as a Job in the cluster. */
export const inKubernetesOptions = {
  inKubernetes: option(value.yesOrNo, {
    flag: "--in-kubernetes",
    default: false,
    doc: "run it as a Job in the cluster, beside the server, and follow it here",
  }),
  detach: option(value.yesOrNo, {
    flag: "--detach",
    default: false,
    doc: "with --in-kubernetes: leave the Job to itself, and print how to follow it",
  }),
  scratchSize: option(value.byteSize, {
    flag: "--scratch-size <bytes>",
    defaultDoc: "`kubernetes.restoreScratch`",
    doc: "with --in-kubernetes: the most that the restore may keep in /scratch",
  }),
};
