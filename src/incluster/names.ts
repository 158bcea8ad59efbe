import type { VolumeRestoreFacts } from "./facts.ts";

/** Under which the old data is kept beside the new, and a snapshot of it. */
export function keptName({ id }: Pick<VolumeRestoreFacts, "id">): string {
  return `pgkit-before-${id.toLowerCase()}`;
}

type JobTitle = "restore" | "put-back" | "drop" | "base" | "beside";

/** Of a Job of this restore. */
export function jobName({ id }: Pick<VolumeRestoreFacts, "id">, does: JobTitle): string {
  return `pgkit-${does}-${id.toLowerCase()}`.slice(0, 63);
}

/** On everything that a restore makes. */
export const restoreLabel = "pgkit.dev/restore";
