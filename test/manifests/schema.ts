import type { Manifest } from "../../src/manifests/request.ts";

/** What Kubernetes' own OpenAPI schemas say of an object, and which of its fields they do not know. Empty: nothing is wrong. */
export async function schemaProblems(manifest: Manifest): Promise<string[]> {
  const { validate } = await import(moduleOf(manifest));
  const read = new Map<string, Set<string>>();
  // Schemas let unknown fields pass, and the API server drops them: one that no validator ever reads is misspelled.
  const isValid: boolean = validate(watched(manifest, "", read));
  const errors: { instancePath: string; message?: string; keyword: string; params: object }[] = validate.errors ?? [];
  const wrong = isValid
    ? []
    : errors.map((each) => `${each.instancePath} ${each.keyword} ${JSON.stringify(each.params)}`);
  return [...wrong, ...unread(manifest, "", read)];
}

function moduleOf({ apiVersion, kind }: Manifest): string {
  // Its package does not export them.
  if (apiVersion === "argoproj.io/v1alpha1") {
    return new URL(`_schemas/${argo}${kind}.js`, import.meta.resolve("@kubernetes-models/argo-cd")).href;
  }
  const [group = "", version = ""] = apiVersion.includes("/") ? apiVersion.split("/") : ["core", apiVersion];
  const first = group.split(".")[0] ?? "";
  const spelled = `${first.charAt(0).toUpperCase()}${first.slice(1)}${version.replace("v", "V")}`;
  return `kubernetes-models/_schemas/IoK8sApi${spelled}${kind}`;
}

const argo = "ComGithubArgoprojArgoCdV3PkgApisApplicationV1alpha1";

function watched<T extends object>(object: T, path: string, read: Map<string, Set<string>>): T {
  const keys = read.get(path) ?? new Set<string>();
  read.set(path, keys);
  return new Proxy(object, {
    get(target, key, receiver) {
      const value: unknown = Reflect.get(target, key, receiver);
      if (typeof key !== "string") return value;
      keys.add(key);
      return typeof value === "object" && value !== null ? watched(value, `${path}/${key}`, read) : value;
    },
  });
}

function unread(value: unknown, path: string, read: ReadonlyMap<string, ReadonlySet<string>>): string[] {
  if (typeof value !== "object" || value === null) return [];
  const keys = read.get(path);
  // Something that any content is allowed in.
  if (keys === undefined || keys.size === 0) return [];
  return Object.entries(value).flatMap(([key, inside]) =>
    keys.has(key) ? unread(inside, `${path}/${key}`, read) : [`${path}/${key} is no field of it`],
  );
}
