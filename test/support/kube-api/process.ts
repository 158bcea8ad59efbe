import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Program } from "./controllers.ts";
import { type Tree, tree } from "./objects.ts";

/** Runs the first container's command and args as a process of this machine; its lines are the Pod's log. */
export const runProcess: Program = async ({ pod, log, signal }) => {
  const [container] = (tree(pod["spec"])["containers"] ?? []) as Tree[];
  const [program = "true", ...args] = [container?.["command"] ?? [], container?.["args"] ?? []].flat() as string[];
  // A group of its own: what the shell has started ends with it.
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], detached: true });
  signal.addEventListener("abort", () => child.pid !== undefined && process.kill(-child.pid, "SIGKILL"));
  const ended = once(child, "close");
  await Promise.all(
    [child.stdout, child.stderr].map(async (stream) => {
      for await (const line of createInterface({ input: stream })) log(line);
    }),
  );
  const [status] = await ended;
  return status ?? 137;
};
