import { isDeepStrictEqual } from "node:util";
import { type Kind, type Obj, Refusal, tree } from "./objects.ts";

/** What the API does not take: bad names and values, and changes of what cannot change. */
export function admit(kind: Kind, next: Obj, before: Obj | undefined): void {
  const { name } = next.metadata;
  if (!/^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/.test(name)) {
    throw invalid(
      kind,
      name,
      "metadata.name",
      `Invalid value: "${name}": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters`,
    );
  }
  if (kind.kind === "Secret") admitSecret(kind, next, before);
  if (before === undefined) return;
  const spec = tree(next["spec"]);
  const specBefore = tree(before["spec"]);
  for (const field of fixed[kind.kind] ?? []) {
    if (isDeepStrictEqual(spec[field], specBefore[field])) continue;
    throw invalid(kind, name, `spec.${field}`, "Invalid value: field is immutable");
  }
}

const fixed: Record<string, string[]> = {
  Job: ["template", "selector", "completions"],
  StatefulSet: ["volumeClaimTemplates", "serviceName", "selector", "podManagementPolicy"],
  Deployment: ["selector"],
  DaemonSet: ["selector"],
  PersistentVolumeClaim: ["accessModes", "storageClassName", "volumeName", "dataSource"],
};

function admitSecret(kind: Kind, next: Obj, before: Obj | undefined): void {
  const { name } = next.metadata;
  const data = tree(next["data"]);
  for (const [key, text] of Object.entries(tree(next["stringData"])))
    data[key] = Buffer.from(String(text)).toString("base64");
  delete next["stringData"];
  if (Object.keys(data).length > 0) next["data"] = data;
  for (const text of Object.values(data)) {
    if (typeof text === "string" && /^[A-Za-z0-9+/]*={0,2}$/.test(text) && text.length % 4 === 0) continue;
    throw new Refusal(
      400,
      "BadRequest",
      'Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0',
    );
  }
  if (before?.["immutable"] !== true) return;
  if (next["immutable"] !== true)
    throw invalid(kind, name, "immutable", "Forbidden: field is immutable when `immutable` is set");
  if (!isDeepStrictEqual(data, tree(before["data"]))) {
    throw invalid(kind, name, "data", "Forbidden: field is immutable when `immutable` is set");
  }
}

function invalid(kind: Kind, name: string, field: string, message: string): Refusal {
  const details = {
    name,
    kind: kind.kind,
    group: kind.group,
    causes: [{ reason: "FieldValueInvalid", field, message }],
  };
  return new Refusal(422, "Invalid", `${kind.kind} "${name}" is invalid: ${field}: ${message}`, details);
}
