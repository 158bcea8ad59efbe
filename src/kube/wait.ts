import { PgkitError } from "../lib/errors.ts";
import type { Clock } from "../lib/time.ts";
import { type Kube, type KubeObject, nameOf, type ObjectRef } from "./kube.ts";

export interface Waiting<T extends KubeObject, R> {
  /** The answer, or what is still waited for. `undefined` as argument: there is no such object. */
  readonly until: (object: T | undefined) => { readonly done: R } | { readonly waiting: string };
  readonly withinMs: number;
  readonly clock: Clock;
}

/** Watches one object until it is as wanted. Fails with `kube-failed`, saying what was missing, when that takes too long. */
export async function waitFor<T extends KubeObject, R>(
  kube: Kube,
  ref: ObjectRef,
  { until, withinMs, clock }: Waiting<T, R>,
  signal: AbortSignal,
): Promise<R> {
  const ending = new AbortController();
  const over = AbortSignal.any([signal, ending.signal]);
  const deadline = clock.delay(withinMs, over).then(
    () => ending.abort(new Error("deadline")),
    () => undefined,
  );
  let last = "it to be seen";
  try {
    const found = await kube.get<T>(ref, over);
    const first = until(found);
    if ("done" in first) return first.done;
    last = first.waiting;
    const which = { namespace: ref.namespace, name: ref.name, known: found === undefined ? [] : [found] };
    for await (const { type, object } of kube.watch<T>(ref, which, over)) {
      const answer = until(type === "gone" ? undefined : object);
      if ("done" in answer) return answer.done;
      last = answer.waiting;
    }
    throw new Error("a watch does not end by itself");
  } catch (error) {
    if (signal.aborted || !ending.signal.aborted) throw error;
    const message = `${nameOf(ref)}: waited ${Math.round(withinMs / 1000)} s for ${last}`;
    throw new PgkitError("kube-failed", message, {
      hint: `kubectl describe ${ref.kind.toLowerCase()} says what holds it up`,
    });
  } finally {
    ending.abort();
    await deadline;
  }
}
