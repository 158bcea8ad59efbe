import { scheduledKinds } from "../manifests/request.ts";
import type { InstanceConfig } from "./config.ts";
import type { FileProblem, FileValue } from "./config-file.ts";
import * as value from "./options/values.ts";
import { withoutPassword } from "./postgres-url.ts";

/** What the text of the file must not have when it becomes a ConfigMap in a cluster: secrets, and paths of this machine. */
export function textProblems(values: readonly FileValue[]): FileProblem[] {
  return values.flatMap(({ option, path, texts, where }) => {
    const what = `${where}: ${path.join(".")}`;
    if (option.secret === true && texts.some(holdsSecret)) {
      const hint =
        "take it out: name a password by passwordFrom, and the store's credentials by variables of the Secret";
      return [{ message: `${what} holds a secret, and a ConfigMap is no place for one`, hint }];
    }
    const isPath = option.type === value.path || option.type === value.repositoryUrl;
    if (isPath && texts.some((text) => !/^(\/|[a-z][a-z0-9+.-]*:)/i.test(text))) {
      const hint = "write it as it is in the pods, from / on";
      return [{ message: `${what} is relative: in a pod it would be below /etc/pgkit, which is read-only`, hint }];
    }
    return [];
  });
}

function holdsSecret(text: string): boolean {
  return /^postgres(ql)?:/i.test(text) ? withoutPassword(text).escaped !== undefined : text !== "";
}

/** Kubernetes reads five fields of numbers, names, `*`, `,`, `-` and `/`; and a pgkit without any schedule has nothing to do. */
export function scheduleProblems(file: string, instances: readonly InstanceConfig[]): FileProblem[] {
  const lines = instances.flatMap(({ name, schedule }) =>
    scheduledKinds.flatMap((kind) => (schedule[kind] === undefined ? [] : [{ name, kind, cron: schedule[kind] }])),
  );
  if (lines.length === 0) {
    const hint = 'such as schedule: { logical: "0 2 * * *", prune: "0 4 * * *", verify: "0 5 * * 0" }';
    return [{ message: `${file}: no instance has a schedule, so there is nothing to render`, hint }];
  }
  return lines
    .filter(
      ({ cron }) =>
        !/^@(yearly|annually|monthly|weekly|daily|midnight|hourly)$|^[\d*,/?\sA-KM-V-Za-km-vX-Z-]+$/.test(cron),
    )
    .map(({ name, kind, cron }) => ({
      message: `${file}: instances.${name}.schedule.${kind} is '${cron}', which Kubernetes does not read`,
      hint: "it knows numbers, names, * , - and /, but not L, W and #",
    }));
}
