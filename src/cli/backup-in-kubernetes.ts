import type { CommandContext } from "./command.ts";
import { runInKubernetes } from "./in-kubernetes.ts";
import { argsForJob } from "./in-kubernetes-args.ts";

/** `pgkit backup logical|base --in-kubernetes`: as the instance's CronJob would do it, now. */
export async function backupInKubernetes(
  context: CommandContext,
  kind: "logical" | "base",
  { detach }: { readonly detach: boolean },
): Promise<number> {
  const instance = context.instance();
  const args = argsForJob(context, { instance: instance.name, detach });
  return await runInKubernetes(context, { like: [kind], title: kind, instance, args, detach });
}
