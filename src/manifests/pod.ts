import { posix } from "node:path";
import { serviceAccountName, workloadLabels } from "./names.ts";
import { type JobKind, type ManifestInstance, type ManifestsRequest, needs } from "./request.ts";

export const configFolder = "/etc/pgkit";
export const scratchFolder = "/scratch";
export const repositoryClaimName = "pgkit-repository";

interface Volume {
  readonly name: string;
  readonly mountPath: string;
  readonly readOnly?: true;
  /** `undefined`: it is a StatefulSet's own. */
  readonly source: object | undefined;
}

export interface PodParts {
  readonly kind: JobKind;
  readonly instance: ManifestInstance;
  readonly args: readonly string[];
  /** Who the audit record says did it. */
  readonly actor: string;
  readonly restartPolicy?: "Never";
  readonly graceSeconds: number;
  readonly container?: object;
  readonly env?: readonly { readonly name: string; readonly value: string }[];
  readonly volumes?: readonly Volume[];
  readonly annotations?: Readonly<Record<string, string>>;
}

/** A Pod that pod security "restricted" lets in: no root, no capability, nothing to write to but its volumes. */
export function podTemplate(request: ManifestsRequest, parts: PodParts) {
  const { uid, imagePullSecrets, podLabels } = request;
  const { kind, instance, annotations } = parts;
  const volumes = [...volumesOf(request, kind, instance), ...(parts.volumes ?? [])];
  const sources = volumes.flatMap(({ name, source }) => (source === undefined ? [] : [{ name, ...source }]));
  return {
    metadata: {
      labels: { ...workloadLabels(kind, instance), ...podLabels },
      ...(annotations === undefined ? {} : { annotations }),
    },
    spec: {
      ...(parts.restartPolicy === undefined ? {} : { restartPolicy: parts.restartPolicy }),
      serviceAccountName: serviceAccountName(kind),
      automountServiceAccountToken: asksApi(kind, instance),
      terminationGracePeriodSeconds: parts.graceSeconds,
      ...(imagePullSecrets.length === 0 ? {} : { imagePullSecrets: imagePullSecrets.map((name) => ({ name })) }),
      securityContext: {
        ...{ runAsNonRoot: true, runAsUser: uid, runAsGroup: uid, fsGroup: uid },
        ...{ fsGroupChangePolicy: "OnRootMismatch", seccompProfile: { type: "RuntimeDefault" } },
      },
      containers: [containerOf(request, parts, volumes)],
      volumes: sources,
    },
  };
}

/** True where the password is in a Secret that pgkit reads itself: only then a Pod has a token of the API. */
export function asksApi(kind: JobKind, { password }: ManifestInstance): boolean {
  return needs[kind].server && password?.type === "secret";
}

function containerOf(request: ManifestsRequest, parts: PodParts, volumes: readonly Volume[]) {
  return {
    name: "pgkit",
    image: request.image,
    args: parts.args,
    env: [{ name: "PGKIT_ACTOR", value: parts.actor }, ...(parts.env ?? []), ...secretVariables(request, parts)],
    ...parts.container,
    securityContext: {
      ...{ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true },
      capabilities: { drop: ["ALL"] },
    },
    resources: { requests: { cpu: "100m", memory: "128Mi" }, limits: { memory: "256Mi" } },
    volumeMounts: volumes.map(({ name, mountPath, readOnly }) => ({
      ...{ name, mountPath },
      ...(readOnly === undefined ? {} : { readOnly }),
    })),
  };
}

/** Only what this job needs: a prune has no password of a server, and nobody that of another instance. */
function secretVariables({ secretName, storeCredentials }: ManifestsRequest, { kind, instance }: PodParts) {
  const { password } = instance;
  const from = (key: string, optional: boolean) => ({
    name: key,
    valueFrom: { secretKeyRef: { name: secretName, key, ...(optional ? { optional } : {}) } },
  });
  const own = needs[kind].server && password?.type === "env" ? [from(password.variable, false)] : [];
  return [...own, ...storeCredentials.flat().map((name) => from(name, true))];
}

function volumesOf(request: ManifestsRequest, kind: JobKind, instance: ManifestInstance): Volume[] {
  const { folders, scratchBytes, repositoryClaim = repositoryClaimName } = request;
  return [
    { name: "config", mountPath: configFolder, readOnly: true, source: { configMap: { name: "pgkit" } } },
    { name: "scratch", mountPath: scratchFolder, source: { emptyDir: { sizeLimit: binarySize(scratchBytes) } } },
    ...folders.map((mountPath, index) => ({
      ...{ name: index === 0 ? "repository" : `repository-${index + 1}`, mountPath },
      source: {
        persistentVolumeClaim: { claimName: index === 0 ? repositoryClaim : `${repositoryClaim}-${index + 1}` },
      },
    })),
    ...secretFiles(request, kind, instance),
  ];
}

/** Each folder with files of the Secret is a volume of those files. */
function secretFiles(request: ManifestsRequest, kind: JobKind, { password }: ManifestInstance): Volume[] {
  const { identityFiles, secretName } = request;
  const files = [
    ...(needs[kind].server && password?.type === "file" ? [password.path] : []),
    ...(needs[kind].identity ? identityFiles : []),
  ];
  const folders = [...new Set(files.map((file) => posix.dirname(file)))];
  return folders.map((folder, index) => {
    const names = [
      ...new Set(files.filter((file) => posix.dirname(file) === folder).map((file) => posix.basename(file))),
    ];
    const items = names.map((name) => ({ key: name, path: name }));
    // 0440: the group is the Pod's.
    const source = { secret: { secretName, defaultMode: 0o440, items } };
    return { name: index === 0 ? "secret" : `secret-${index + 1}`, mountPath: folder, readOnly: true, source };
  });
}

/** `2Gi`, or whatever unit is whole. */
export function binarySize(bytes: number): string {
  const units = ["", "Ki", "Mi", "Gi", "Ti"];
  let amount = Math.ceil(bytes);
  let unit = 0;
  while (amount % 1024 === 0 && amount > 0 && unit < units.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  return `${amount}${units[unit]}`;
}
