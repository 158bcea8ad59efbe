import type { Caller } from "./call.ts";
import type { Ask } from "./errors.ts";
import { linesOf } from "./http.ts";
import type { PodContainer } from "./kube.ts";
import { knownResource } from "./resource.ts";
import type { Pod } from "./workloads.ts";

/** A process may say nothing for long; the connection is then kept by TCP, and asked for anew after so long. */
const silentMs = 120_000;

/** See `Kube.log`. Lines are known by the time that the node put before each. */
export async function* followLog(caller: Caller, container: PodContainer, signal: AbortSignal): AsyncGenerator<string> {
  const ask = askFor(container, "log");
  const patience = caller.patience(signal);
  const last = { time: "", count: 0 };
  for (;;) {
    let hasEnded = false;
    try {
      // Asked before the log: what a container says after it has ended is nothing.
      hasEnded = await isOver(caller, container, signal);
      const query = { ...ask.query, sinceTime: last.time === "" ? undefined : wholeSeconds(last.time) };
      const answer = await caller.open({ ...ask, query }, silentMs, signal);
      for await (const text of fresh(linesOf(caller.access(), ask, answer, signal), last)) {
        patience.progressed();
        yield text;
      }
      signal.throwIfAborted();
    } catch (error) {
      await patience.after(error);
      continue;
    }
    if (hasEnded) return;
  }
}

function askFor({ namespace, pod, container }: PodContainer, subresource?: "log"): Ask {
  const resource = knownResource({ apiVersion: "v1", kind: "Pod" });
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(pod)}`;
  const ask = { verb: "get", namespace, name: pod, ...(resource === undefined ? {} : { resource }) } as const;
  if (subresource === undefined) return { ...ask, path };
  const query = { container, follow: "true", timestamps: "true" };
  return { ...ask, subresource, path: `${path}/log`, query };
}

/** Fails with `kube-missing` where the Pod is gone. */
async function isOver(caller: Caller, container: PodContainer, signal: AbortSignal): Promise<boolean> {
  const { status } = (await caller.json(askFor(container), signal)) as Pod;
  if (status?.phase === "Failed" || status?.phase === "Succeeded") return true;
  const all = [...(status?.containerStatuses ?? []), ...(status?.initContainerStatuses ?? [])];
  return all.some(({ name, state }) => name === container.container && state?.terminated !== undefined);
}

/** The texts of lines that are later than the last one given, or that came after it within its nanosecond. */
async function* fresh(lines: AsyncGenerator<string>, last: { time: string; count: number }): AsyncGenerator<string> {
  const known = { ...last };
  let sameAgain = 0;
  for await (const line of lines) {
    const space = line.indexOf(" ");
    const time = line.slice(0, space === -1 ? line.length : space);
    const order = compareTimes(time, known.time);
    if (order < 0) continue;
    if (order === 0 && known.time !== "") {
      sameAgain += 1;
      if (sameAgain <= known.count) continue;
    }
    last.count = time === last.time ? last.count + 1 : 1;
    last.time = time;
    yield space === -1 ? "" : line.slice(space + 1);
  }
}

/** `2026-11-29T17:19:42.123456789Z`: nanoseconds without trailing zeros, more than a Date holds. */
function compareTimes(a: string, b: string): number {
  const [x, y] = [comparable(a), comparable(b)];
  return x < y ? -1 : x > y ? 1 : 0;
}

function comparable(time: string): string {
  const [whole = "", fraction = ""] = time.replace("Z", "").split(".");
  return `${whole}.${fraction.padEnd(9, "0")}`;
}

/** The parameter knows seconds alone. */
function wholeSeconds(time: string): string {
  return `${time.slice(0, 19)}Z`;
}
