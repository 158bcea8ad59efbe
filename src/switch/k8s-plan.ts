import { ownerOf } from "../kube/owner.ts";
import { type SecretUsers, usersOfSecret } from "../kube/secret-users.ts";
import type { Secret, Workload } from "../kube/workloads.ts";
import { titleOf } from "./k8s-rollout.ts";
import { changesTo, immutableHint, type SecretPlace } from "./k8s-secret.ts";
import { spellAddress } from "./switch-errors.ts";
import type { EndpointAddress, SwitchPlan } from "./switcher.ts";

type Remark = SwitchPlan["warnings"][number];

/** What switching a Secret does, who would be in the way, and what restarts. Changes nothing. */
export async function secretPlan(
  place: SecretPlace,
  secret: Secret,
  to: EndpointAddress,
  signal: AbortSignal,
): Promise<SwitchPlan> {
  const users = await usersOfSecret(place.kube, place.config, signal);
  const keys = [...changesTo(place, secret, to).keys()];
  const owner = ownerOf(secret);
  const isByGit = owner !== undefined && place.overrideGitops !== true;
  const write = isByGit
    ? `writes a patch of ${place.where} into ${place.gitopsOut}, and waits for the cluster to show it`
    : `writes ${spellAddress(to)} into ${keys.join(", ") || "nothing"} of ${place.where}`;
  const restarts = users.workloads.map(
    ({ workload, by }) => `restarts ${titleOf(workload)}, which reads it (${by.join(", ")})`,
  );
  const later = users.cronJobs.map((name) => `leaves CronJob ${place.config.namespace}/${name} to its next run`);
  return {
    does: [`${write}, for ${spellAddress(to)}`, ...restarts, ...later],
    refusals: refusals(place, secret),
    warnings: [...ownerWarnings(place, secret), ...userWarnings(place, users)],
  };
}

function refusals({ where, gitopsOut, overrideGitops, config }: SecretPlace, secret: Secret): Remark[] {
  const owner = ownerOf(secret);
  const found: Remark[] = [];
  if (secret.immutable === true)
    found.push({ message: `${where} is immutable: nobody can change it`, hint: immutableHint });
  if (owner === undefined || overrideGitops === true) return found;
  const message = `${where} belongs to ${owner.who}, which would put it back`;
  if (gitopsOut === undefined) {
    found.push({
      message,
      hint: `${owner.commit}: --gitops-out DIR writes what to commit; --override-gitops changes it all the same`,
    });
  } else if (owner.type === "sealed-secret" && config.kubeseal === undefined) {
    found.push({
      message,
      hint: `set switch.secret.kubeseal, so that --gitops-out can write a SealedSecret; or ${owner.commit}`,
    });
  } else if (owner.type === "external-secret" || owner.type === "controller") {
    found.push({ message, hint: `${owner.commit}, then --override-gitops; no patch in Git would reach it` });
  }
  return found;
}

function ownerWarnings({ where, gitopsOut, overrideGitops }: SecretPlace, secret: Secret): Remark[] {
  const owner = ownerOf(secret);
  if (owner === undefined) return [];
  if (overrideGitops === true) {
    return [
      {
        message: `${where} belongs to ${owner.who} and is changed all the same`,
        hint: `${owner.commit} as well, or it is put back`,
      },
    ];
  }
  if (gitopsOut === undefined) return [];
  const message = "the application cannot write from the block until your commit has reached the cluster";
  return [{ message, hint: `have it ready to be merged, and give --max-block for that long` }];
}

function userWarnings({ where }: SecretPlace, { workloads, cronJobs }: SecretUsers): Remark[] {
  const found = workloads.flatMap(({ workload }) => workloadWarnings(workload));
  if (workloads.length === 0 && cronJobs.length === 0) {
    const message = `nothing in its namespace reads ${where} as env or volume`;
    found.push({ message, hint: "does the application read another Secret, or through the API? restart it yourself" });
  }
  return found;
}

/** A restart is an annotation that Git does not name, which ArgoCD, Flux and Helm leave alone; an operator need not. */
function workloadWarnings(workload: Workload): Remark[] {
  const title = titleOf(workload);
  const { spec } = workload;
  const owner = ownerOf(workload);
  const found: Remark[] = [];
  if (spec?.paused === true) {
    found.push({
      message: `${title} is paused: its Pods are not restarted`,
      hint: `kubectl rollout resume, before the move`,
    });
  }
  if (spec?.updateStrategy?.type === "OnDelete") {
    found.push({
      message: `${title} replaces its Pods only when they are deleted`,
      hint: "delete its Pods when the move has switched",
    });
  }
  if (owner?.type === "controller") {
    found.push({
      message: `${title} belongs to ${owner.who}, which may undo its restart`,
      hint: `watch it: ${owner.commit}`,
    });
  }
  return found;
}
