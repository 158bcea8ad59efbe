import { type Kube, nameOf, refOf } from "../kube/kube.ts";
import { rolloutOf } from "../kube/rollout.ts";
import { usersOfSecret } from "../kube/secret-users.ts";
import { waitFor } from "../kube/wait.ts";
import type { ContainerStatus, Pod, Workload } from "../kube/workloads.ts";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import { formatDuration } from "../lib/parse.ts";
import { pointedAt, type SecretPlace } from "./k8s-secret.ts";
import { spellAddress } from "./switch-errors.ts";
import type { EndpointAddress } from "./switcher.ts";

const usualRolloutMs = 300_000;

/** Lets every workload that reads the Secret start its Pods anew, unless they are those of this endpoint already. */
export async function restartUsers(place: SecretPlace, to: EndpointAddress, signal: AbortSignal): Promise<void> {
  const { kube, config, report } = place;
  const { workloads } = await usersOfSecret(kube, config, signal);
  for (const { workload } of workloads) {
    const at = workload.spec?.template?.metadata?.annotations?.[pointedAt];
    if (at === spellAddress(to)) continue;
    // A template is merged: what others change in it meanwhile stays.
    const merge = { spec: { template: { metadata: { annotations: { [pointedAt]: spellAddress(to) } } } } };
    await kube.patch(refOf(workload), { merge }, signal);
    report({ type: "note", message: `restarting ${titleOf(workload)}, which reads ${place.where}` });
  }
}

/** Fails with `not-ready`, naming what is not ready and why, when that takes longer than the deadline. */
export async function waitForUsers(place: SecretPlace, signal: AbortSignal): Promise<void> {
  const { kube, config } = place;
  const { workloads } = await usersOfSecret(kube, config, signal);
  const outcomes = await Promise.allSettled(workloads.map(({ workload }) => ready(place, workload, signal)));
  signal.throwIfAborted();
  const failures = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason] : []));
  const other = failures.find((failure) => !isPgkitError(failure, "not-ready"));
  if (other !== undefined) throw other;
  const [first] = failures as PgkitError[];
  if (first === undefined) return;
  throw new PgkitError("not-ready", failures.map(({ message }) => message).join("; "), {
    hint: first.hint ?? "kubectl describe says what holds it up",
    cause: first,
  });
}

async function ready(place: SecretPlace, workload: Workload, signal: AbortSignal): Promise<void> {
  const { kube, clock, rolloutMs = usualRolloutMs } = place;
  const ref = refOf(workload);
  const until = (found: Workload | undefined) => {
    if (found === undefined) return { done: undefined };
    const rollout = rolloutOf(found);
    if (rollout.type === "waiting") return { waiting: rollout.for };
    return { done: rollout.type === "stuck" ? rollout.because : undefined };
  };
  let because: string | undefined;
  try {
    because = await waitFor<Workload, string | undefined>(kube, ref, { until, withinMs: rolloutMs, clock }, signal);
  } catch (error) {
    if (!isPgkitError(error, "kube-failed") || signal.aborted) throw error;
    because = `not within ${formatDuration(rolloutMs)}`;
  }
  if (because === undefined) return;
  const pods = await trouble(kube, workload, signal);
  const message = `${titleOf(workload)} did not become ready: ${because}${pods === "" ? "" : ` (${pods})`}`;
  const where = `-n ${workload.metadata.namespace}`;
  throw new PgkitError("not-ready", message, {
    hint: `kubectl ${where} describe pods and kubectl ${where} logs say why`,
  });
}

/** What its Pods wait for or ended with. */
async function trouble(kube: Kube, workload: Workload, signal: AbortSignal): Promise<string> {
  const labels = Object.entries(workload.spec?.selector?.matchLabels ?? {}).map(([key, value]) => `${key}=${value}`);
  if (labels.length === 0) return "";
  const { namespace } = workload.metadata;
  try {
    const which = { namespace, labels: labels.join(",") };
    const { objects } = await kube.list<Pod>({ apiVersion: "v1", kind: "Pod" }, which, signal);
    return objects
      .flatMap(({ metadata, status }) =>
        statesOf(status?.containerStatuses).map((state) => `${metadata.name}: ${state}`),
      )
      .join(", ");
  } catch (error) {
    // The message is good without it: an account need not be able to list Pods for a switch.
    if (isPgkitError(error, "kube-denied")) return "";
    throw error;
  }
}

function statesOf(statuses: readonly ContainerStatus[] | undefined): string[] {
  return (statuses ?? []).flatMap(({ state }) => {
    if (state?.waiting !== undefined) return [state.waiting.reason ?? "waiting"];
    return state?.terminated === undefined ? [] : [`exit status ${state.terminated.exitCode}`];
  });
}

export function titleOf({ kind, metadata }: Workload): string {
  return nameOf({ kind, namespace: metadata.namespace, name: metadata.name });
}
