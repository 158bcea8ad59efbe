import type { Kube, Manifest } from "../kube/kube.ts";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import type { CommandContext } from "./command.ts";
import type { InstanceConfig } from "./config.ts";

const withinMs = 600_000;
const firstPauseMs = 250;
const longestPauseMs = 5_000;
const tellEveryMs = 15_000;

/**
 * Applies the manifests of an instance, in their order, and waits until it answers SQL. Safe to repeat. Fails with
 * `kube-conflict`, naming who has a field that is to be changed; with `postgres-denied` as soon as the server refuses the
 * password; with `postgres-unreachable` where it does not answer within ten minutes.
 */
export async function provisionInstance(
  context: CommandContext,
  path: string,
  instance: InstanceConfig,
): Promise<void> {
  const { readManifests } = await import("./provision-files.ts");
  const { nameOf, refOf } = await import("../kube/kube.ts");
  const manifests = await readManifests(path);
  const kube = await context.kube();
  for (const manifest of manifests) {
    const { apiVersion, kind } = manifest;
    const { metadata } = await kube.apply(inNamespace(kube, manifest), {}, context.signal);
    context.report({ type: "note", message: `applied ${nameOf(refOf({ apiVersion, kind, metadata }))}` });
  }
  await untilItAnswers(context, instance);
}

/**
 * Says what `provisionInstance` would do, each object and whether it is there, and changes nothing. False where the instance
 * does not answer yet: then this is the whole plan, and has been given as the result.
 */
export async function showProvision(
  context: CommandContext,
  path: string,
  { target, database }: { readonly target: InstanceConfig; readonly database: string },
): Promise<boolean> {
  const { out, report } = context;
  const planned = await plannedObjects(context, path);
  const lines = planned.map(({ object, isThere }) => `would apply ${object}, which is ${isThere ? "" : "not "}there`);
  if ((await silence(context, target)) === undefined) {
    for (const message of lines) report({ type: "note", message });
    return true;
  }
  const next = `then wait until ${target.name} answers, which it does not yet: the plan of the move itself can be told only then`;
  const json = { database, to: target.name, state: "to-provision", provision: planned };
  out.result({ json, text: [...lines, next].join("\n") });
  return false;
}

interface PlannedObject {
  /** `StatefulSet litellm/litellm-db` */
  readonly object: string;
  readonly isThere: boolean;
}

async function plannedObjects(context: CommandContext, path: string): Promise<PlannedObject[]> {
  const { readManifests } = await import("./provision-files.ts");
  const { nameOf, refOf } = await import("../kube/kube.ts");
  const manifests = await readManifests(path);
  const kube = await context.kube();
  const planned: PlannedObject[] = [];
  for (const manifest of manifests) {
    const ref = refOf(inNamespace(kube, manifest));
    const isThere = (await kube.get(ref, context.signal)) !== undefined;
    planned.push({ object: nameOf(ref), isThere });
  }
  return planned;
}

async function untilItAnswers(context: CommandContext, instance: InstanceConfig): Promise<void> {
  const { clock, report, signal } = context;
  const started = clock.monotonicMs();
  const passedMs = () => clock.monotonicMs() - started;
  let pauseMs = firstPauseMs;
  let toldMs = Number.NEGATIVE_INFINITY;
  for (;;) {
    const why = await silence(context, instance);
    if (why === undefined) break;
    if (passedMs() >= withinMs) throw neverAnswered(instance, why);
    if (passedMs() - toldMs >= tellEveryMs) {
      toldMs = passedMs();
      report({ type: "note", message: `waiting for ${instance.name} to answer: ${why.message}` });
    }
    await clock.delay(pauseMs, signal);
    pauseMs = Math.min(longestPauseMs, pauseMs * 2);
  }
  report({ type: "note", message: `${instance.name} answers, after ${Math.round(passedMs() / 1000)} s` });
}

/** Why it does not answer yet: nobody is there, or the Secret with its password is still to be made by a controller. */
async function silence(context: CommandContext, instance: InstanceConfig): Promise<PgkitError | undefined> {
  const { withSession } = await import("../postgres/session.ts");
  try {
    const connection = await context.connection(instance);
    await withSession(connection, { signal: context.signal }, (session) => session.query("SELECT 1"));
    return undefined;
  } catch (error) {
    context.signal.throwIfAborted();
    if (isPgkitError(error, "postgres-unreachable") || isPgkitError(error, "kube-missing")) return error;
    throw error;
  }
}

function neverAnswered({ name }: InstanceConfig, why: PgkitError): PgkitError {
  const message = `${name} was applied and did not answer within ${withinMs / 60_000} min: ${why.message}`;
  return new PgkitError(why.code, message, {
    hint: "kubectl get pods and kubectl describe say what holds it up; the move has not begun: run the same line again",
    cause: why,
  });
}

/** In the namespace of the context, as kubectl does, where the manifest names none and its kind has one. */
function inNamespace(kube: Kube, manifest: Manifest): Manifest {
  if (manifest.metadata.namespace !== undefined || manifest.kind === "Namespace") return manifest;
  return { ...manifest, metadata: { ...manifest.metadata, namespace: kube.namespace } };
}
