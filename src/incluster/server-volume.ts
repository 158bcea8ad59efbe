import type { Container, PodSpec, Workload } from "../kube/workloads.ts";
import { PgkitError } from "../lib/errors.ts";

/** Where a StatefulSet's PostgreSQL has its data, and whose they are. Journaled: plain values. */
export interface ServerVolume {
  /** The container of the server. */
  readonly container: string;
  readonly image: string;
  readonly claim: string;
  /** How a Job mounts the volume. */
  readonly mountPath: string;
  readonly subPath?: string | undefined;
  /** The data directory, as such a Job sees it. */
  readonly dataDir: string;
  /** True: it is the volume's root, and cannot be renamed. */
  readonly isRoot: boolean;
  /** As whom the server's Pod begins: 0 where its image then changes to the data's owner. */
  readonly user: number;
  readonly group?: number | undefined;
}

/** What the configuration says where the Pod does not. */
export interface VolumeOverrides {
  readonly dataDir?: string | undefined;
  readonly user?: number | undefined;
}

/**
 * Recognises Bitnami's image and chart, the image `postgres`, and others by PGDATA or `-D`. `major` is the server's. Pure. Fails
 * with `restore-refused`, naming what the configuration must say.
 */
export function serverVolumeOf(workload: Workload, major: number, overrides: VolumeOverrides = {}): ServerVolume {
  const spec = workload.spec?.template?.spec ?? {};
  const container = serverContainer(workload, spec);
  const image = container.image ?? "";
  const wanted = overrides.dataDir ?? dataDirOf(container, major);
  const mount = mountOf(container, wanted);
  if (mount === undefined) {
    throw refusal(workload, `mounts no volume at ${wanted}, where its data should be`, dataDirHint);
  }
  const claim = claimOf(workload, spec, mount.name);
  const user = overrides.user ?? container.securityContext?.runAsUser ?? spec.securityContext?.runAsUser;
  const group = container.securityContext?.runAsGroup ?? spec.securityContext?.runAsGroup;
  return {
    ...{ container: container.name, image, claim },
    ...placeOf(mount, wanted),
    user: user ?? (isBitnami(image) ? 1001 : 0),
    ...(group === undefined ? {} : { group }),
  };
}

const dataDirHint = "say where it is: instances.NAME.kubernetes.dataDir";

function serverContainer(workload: Workload, { containers = [] }: PodSpec): Container {
  const [only] = containers;
  if (only !== undefined && containers.length === 1) return only;
  const found = containers.filter((each) => !/exporter|metrics|bouncer|pgkit/.test(`${each.name} ${each.image}`));
  const servers = found.filter(
    ({ env = [], image = "" }) => env.some(({ name }) => serverVariables.has(name)) || /postgres/.test(image),
  );
  const [first, second] = servers;
  if (first !== undefined && second === undefined) return first;
  const names = containers.map(({ name }) => name).join(", ") || "none";
  throw refusal(workload, `does not show which of its containers is PostgreSQL: ${names}`, dataDirHint);
}

const serverVariables = new Set(["PGDATA", "POSTGRES_PASSWORD", "POSTGRES_PASSWORD_FILE", "POSTGRESQL_VOLUME_DIR"]);

function dataDirOf(container: Container, major: number): string {
  const { env = [], image = "", command = [], args = [] } = container;
  const variable = (name: string) => {
    const text = env.find((each) => each.name === name)?.value;
    return text?.startsWith("/") === true ? text : undefined;
  };
  const words = [...command, ...args];
  const after = words.findIndex((word) => word === "-D" || word === "--pgdata");
  const flag =
    after < 0 ? words.map((word) => /^(?:-D|--pgdata=)(\/.+)$/.exec(word)?.[1]).find(Boolean) : words[after + 1];
  const given = flag ?? variable("PGDATA") ?? variable("POSTGRESQL_DATA_DIR");
  if (given !== undefined) return given.replace(/(.)\/+$/, "$1");
  if (isBitnami(image)) return `${variable("POSTGRESQL_VOLUME_DIR") ?? "/bitnami/postgresql"}/data`;
  // https://github.com/docker-library/docs/blob/master/postgres/content.md#pgdata
  return major >= 18 ? `/var/lib/postgresql/${major}/docker` : "/var/lib/postgresql/data";
}

function isBitnami(image: string): boolean {
  return /(^|\/)bitnami(legacy|secure|premium)?\//.test(image);
}

type Mount = NonNullable<Container["volumeMounts"]>[number];

/** The deepest one above. */
function mountOf({ volumeMounts = [] }: Container, dataDir: string): Mount | undefined {
  const above = volumeMounts.filter(({ mountPath }) => isWithin(dataDir, mountPath));
  return above.toSorted((a, b) => b.mountPath.length - a.mountPath.length)[0];
}

function isWithin(path: string, folder: string): boolean {
  return path === folder || path.startsWith(folder.endsWith("/") ? folder : `${folder}/`);
}

/** Where a Job has a whole volume of which the server mounts a folder. */
export const rootMount = "/pgkit-volume";

/** A mount point cannot be renamed: where only a folder of the volume is mounted there, the Job mounts all of it. */
function placeOf(mount: Mount, dataDir: string): Pick<ServerVolume, "mountPath" | "subPath" | "dataDir" | "isRoot"> {
  const mountPath = mount.mountPath.replace(/(.)\/+$/, "$1");
  const { subPath } = mount;
  if (dataDir !== mountPath) {
    return { mountPath, ...(subPath === undefined ? {} : { subPath }), dataDir, isRoot: false };
  }
  if (subPath === undefined || subPath === "") return { mountPath, dataDir, isRoot: true };
  return { mountPath: rootMount, dataDir: `${rootMount}/${subPath.replaceAll(/^\/+|\/+$/g, "")}`, isRoot: false };
}

function claimOf(workload: Workload, spec: PodSpec, volume: string): string {
  const templates = workload.spec?.volumeClaimTemplates ?? [];
  if (templates.some(({ metadata }) => metadata.name === volume)) return `${volume}-${podNameOf(workload)}`;
  const claim = spec.volumes?.find(({ name }) => name === volume)?.persistentVolumeClaim?.claimName;
  if (claim !== undefined) return claim;
  throw refusal(workload, `has its data on the volume ${volume}, which is no PersistentVolumeClaim`, dataDirHint);
}

/** Its only Pod. */
export function podNameOf({ metadata, spec }: Workload): string {
  const { ordinals } = (spec ?? {}) as { ordinals?: { start?: number } };
  return `${metadata.name}-${ordinals?.start ?? 0}`;
}

function refusal({ metadata }: Workload, what: string, hint: string): PgkitError {
  return new PgkitError("restore-refused", `StatefulSet ${metadata.namespace}/${metadata.name} ${what}`, { hint });
}
