import { randomBytes } from "node:crypto";
import { type Obj, type Tree, tree } from "./objects.ts";
import { makePod, owned, removePod, runProgram, setContainers, setPodRunning, setStatus, type World } from "./pods.ts";

/** One Pod after the other until one succeeds, as far as backoffLimit, podFailurePolicy and activeDeadlineSeconds let it. */
export function reconcileJob(world: World, object: Obj): unknown {
  const spec = tree(object["spec"]);
  const conditions = (tree(object["status"])["conditions"] ?? []) as Tree[];
  if (object.metadata["deletionTimestamp"] !== undefined || spec["suspend"] === true) return undefined;
  if (conditions.some(({ type }) => type === "Complete" || type === "Failed")) return undefined;
  const pods = owned(world, object);
  const phase = (pod: Obj) => tree(pod["status"])["phase"];
  const failedPods = pods.filter((pod) => phase(pod) === "Failed" && !isIgnored(spec, pod));
  const failed = failedPods.length;
  const fail = (reason: string, message: string) =>
    setStatus(world, object, { failed, conditions: [{ type: "Failed", status: "True", reason, message }] });
  if (pods.some((pod) => phase(pod) === "Succeeded")) {
    return setStatus(world, object, { succeeded: 1, failed, conditions: [{ type: "Complete", status: "True" }] });
  }
  if (isOverdue(world, object, spec)) {
    fail("DeadlineExceeded", "Job was active longer than specified deadline");
    for (const pod of pods) if (phase(pod) === "Running" || phase(pod) === "Pending") removePod(world, pod);
    return undefined;
  }
  const hopeless = failedPods.find((pod) => failsJob(spec, pod));
  if (hopeless !== undefined) {
    const { name, namespace } = hopeless.metadata;
    const what = `Container ${containerOf(hopeless)["name"]} for pod ${namespace}/${name}`;
    return fail("PodFailurePolicy", `${what} failed with exit code ${exitOf(hopeless)} matching FailJob rule`);
  }
  if (failed > Number(spec["backoffLimit"] ?? 6)) {
    return fail("BackoffLimitExceeded", "Job has reached the specified backoff limit");
  }
  if (pods.some((pod) => phase(pod) === "Pending" || phase(pod) === "Running")) {
    return setStatus(world, object, { active: 1, failed });
  }
  return start(world, object, tree(spec["template"]));
}

function start(world: World, job: Obj, template: Tree): unknown {
  const { name } = job.metadata;
  const labels = {
    ...(tree(tree(template["metadata"])["labels"]) as Record<string, string>),
    "batch.kubernetes.io/job-name": name,
    "job-name": name,
  };
  const pod = makePod(world, job, `${name}-${randomBytes(3).toString("hex")}`, labels, tree(template["spec"]));
  const image = String(containerOf(pod)["image"] ?? "");
  if (!world.behaviour.pulls(image)) {
    const waiting = { reason: "ImagePullBackOff", message: `Back-off pulling image "${image}"` };
    return setContainers(world, pod, { phase: "Pending" }, { ready: false, state: { waiting } });
  }
  setPodRunning(world, pod, true);
  return runProgram(world, job, pod);
}

function isOverdue({ since, soon }: World, { metadata }: Obj, spec: Tree): boolean {
  const seconds = spec["activeDeadlineSeconds"];
  const uid = metadata.uid ?? "";
  if (typeof seconds !== "number") return false;
  const begun = since.get(uid);
  if (begun !== undefined) return Date.now() - begun >= seconds * 1000;
  since.set(uid, Date.now());
  setTimeout(soon, seconds * 1000 + 1).unref();
  return false;
}

function isIgnored(spec: Tree, pod: Obj): boolean {
  const conditions = (tree(pod["status"])["conditions"] ?? []) as Tree[];
  const isDisrupted = conditions.some(({ type, status }) => type === "DisruptionTarget" && status === "True");
  return isDisrupted && rulesOf(spec).some(({ action, onPodConditions }) => action === "Ignore" && onPodConditions);
}

function failsJob(spec: Tree, pod: Obj): boolean {
  return rulesOf(spec).some(({ action, onExitCodes }) => {
    return action === "FailJob" && ((tree(onExitCodes)["values"] ?? []) as unknown[]).includes(exitOf(pod));
  });
}

function rulesOf(spec: Tree): Tree[] {
  return (tree(spec["podFailurePolicy"])["rules"] ?? []) as Tree[];
}

function exitOf(pod: Obj): unknown {
  const [status] = (tree(pod["status"])["containerStatuses"] ?? []) as Tree[];
  return tree(tree(status?.["state"])["terminated"])["exitCode"];
}

function containerOf(pod: Obj): Tree {
  const [container] = (tree(pod["spec"])["containers"] ?? []) as Tree[];
  return container ?? {};
}
