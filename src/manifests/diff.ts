import type { Manifest } from "./request.ts";

export interface ObjectRef {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace?: string | undefined;
  readonly name: string;
}

/** What of one object differs between the manifests and the cluster. */
export interface Difference extends ObjectRef {
  /** `add`: it is not in the cluster. `remove`: it was rendered once, and is no more. */
  readonly action: "add" | "change" | "remove";
  readonly fields: readonly FieldDifference[];
}

export interface FieldDifference {
  /** `spec.schedule`, `spec.template.spec.containers[0].image`. */
  readonly path: string;
  /** In the cluster; `undefined`: not there. */
  readonly from: unknown;
  readonly to: unknown;
}

/**
 * How a cluster differs from what is rendered: `there` has what the cluster gave for each, and `labelled` what it has with pgkit's
 * label. The API adds defaults, so what is not rendered does not count: but for the items of lists, and data.
 */
export function manifestDifferences(
  rendered: readonly Manifest[],
  there: readonly (object | undefined)[],
  labelled: readonly Manifest[],
): Difference[] {
  const differences = rendered.flatMap((manifest, index): Difference[] => {
    const live = there[index];
    if (live === undefined) return [{ ...refOf(manifest), action: "add", fields: [] }];
    const fields = [...fieldDifferences(manifest, live, "")];
    return fields.length === 0 ? [] : [{ ...refOf(manifest), action: "change", fields }];
  });
  const known = new Set(rendered.map((manifest) => keyOf(refOf(manifest))));
  const gone = labelled.filter((each) => !known.has(keyOf(refOf(each))));
  return [...differences, ...gone.map((each): Difference => ({ ...refOf(each), action: "remove", fields: [] }))];
}

export function refOf({ apiVersion, kind, metadata }: Manifest): ObjectRef {
  const { name, namespace } = metadata;
  return { apiVersion, kind, ...(namespace === undefined ? {} : { namespace }), name };
}

/** `CronJob databases/pgkit-base-shared`, for messages. */
export function nameOf({ kind, namespace, name }: ObjectRef): string {
  return namespace === undefined ? `${kind} ${name}` : `${kind} ${namespace}/${name}`;
}

/** Kinds whose versions change without their objects. */
function keyOf(ref: ObjectRef): string {
  return `${ref.apiVersion.split("/").at(-2) ?? ""} ${nameOf(ref)}`;
}

function* fieldDifferences(to: unknown, from: unknown, path: string): Generator<FieldDifference> {
  if (Array.isArray(to) && Array.isArray(from) && to.length === from.length) {
    for (const [index, item] of to.entries()) yield* fieldDifferences(item, from[index], `${path}[${index}]`);
  } else if (isMap(to) && isMap(from)) {
    const isWhole = path === "data" || path.endsWith(".matchLabels");
    const keys = isWhole ? [...new Set([...Object.keys(to), ...Object.keys(from)])] : Object.keys(to);
    for (const key of keys) yield* fieldDifferences(to[key], from[key], path === "" ? key : `${path}.${key}`);
  } else if (!(to === from || (isNothing(to) && isNothing(from)))) yield { path, from, to };
}

/** The API leaves out what is empty or false. */
function isNothing(value: unknown): boolean {
  return (
    value === undefined ||
    value === null ||
    value === false ||
    value === "" ||
    (Array.isArray(value) && value.length === 0)
  );
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
