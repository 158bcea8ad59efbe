import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import type { RequestOptions } from "node:https";
import { isIPv6 } from "node:net";
import { delimiter, join } from "node:path";
import { KubeConfig } from "@kubernetes/client-node";
import { PgkitError } from "../lib/errors.ts";

/** Which cluster, as whom. */
export interface KubeTarget {
  /** A kubeconfig; else KUBECONFIG, else `~/.kube/config`, else the ServiceAccount of the Pod that pgkit runs in. */
  readonly kubeconfig?: string | undefined;
  /** A context of it; else its current one. */
  readonly context?: string | undefined;
  /** True: the Pod's ServiceAccount, whatever else is there. */
  readonly inCluster?: boolean | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Where a Pod's token, CA and namespace are mounted, for tests. */
  readonly serviceAccountFolder?: string | undefined;
}

/** The address of the API, and what lets pgkit in. */
export interface Access {
  readonly where: string;
  /** With the path of a proxy, such as Rancher's, and no `/` at its end. */
  readonly server: URL;
  readonly namespace: string;
  /** Header, TLS and agent of one request. Tokens from files and plug-ins are asked for when they may have changed. */
  credentials(): Promise<RequestOptions>;
  /** The same access with everything read again: for when the API no longer takes it. */
  renewed(): Promise<Access>;
}

/** Fails with `config` where no cluster is named, or a kubeconfig cannot be used. */
export async function accessTo(target: KubeTarget): Promise<Access> {
  const config = await configOf(target);
  if (target.context !== undefined) useContext(config, target.context);
  const name = config.getCurrentContext();
  const cluster = config.getCurrentCluster();
  const context = config.getContextObject(name);
  if (cluster === null || context === null) {
    throw new PgkitError("config", `the kubeconfig has no cluster for its context '${name}'`, {
      hint: `name one by --context; there are: ${names(config)}`,
    });
  }
  const via = name === "inCluster" ? "by the Pod's ServiceAccount" : `context ${name}`;
  return {
    where: `Kubernetes at ${cluster.server} (${via})`,
    server: new URL(cluster.server.replace(/\/+$/, "")),
    namespace: context.namespace?.trim() || "default",
    credentials: () => credentialsOf(config, cluster.server),
    renewed: () => accessTo(target),
  };
}

async function credentialsOf(config: KubeConfig, server: string): Promise<RequestOptions> {
  const options: RequestOptions = {};
  try {
    await config.applyToHTTPSOptions(options);
  } catch (cause) {
    const said = cause instanceof Error ? cause.message : String(cause);
    throw new PgkitError("config", `the credentials for Kubernetes at ${server} cannot be had: ${said}`, {
      hint: "does kubectl work with the same context? Log in again where a plug-in does that",
      cause,
    });
  }
  return options;
}

function useContext(config: KubeConfig, context: string): void {
  if (config.getContextObject(context) === null) {
    throw new PgkitError("config", `the kubeconfig has no context '${context}'`, {
      hint: `there are: ${names(config)}`,
    });
  }
  config.setCurrentContext(context);
}

function names(config: KubeConfig): string {
  return (
    config
      .getContexts()
      .map(({ name }) => name)
      .join(", ") || "none"
  );
}

async function configOf(target: KubeTarget): Promise<KubeConfig> {
  const config = new KubeConfig();
  const files = target.inCluster === true ? [] : kubeconfigs(target);
  for (const [index, file] of files.entries()) {
    const one = index === 0 ? config : new KubeConfig();
    try {
      one.loadFromFile(file);
      if (index > 0) config.mergeConfig(one, true);
    } catch (cause) {
      const said = cause instanceof Error ? cause.message : String(cause);
      throw new PgkitError("config", `the kubeconfig ${file} cannot be read: ${said.split("\n")[0]}`, {
        hint: "is the path right, and does kubectl read it?",
        cause,
      });
    }
  }
  if (files.length === 0) await useServiceAccount(config, target);
  return config;
}

function kubeconfigs({ kubeconfig, env }: KubeTarget): string[] {
  if (kubeconfig !== undefined) return [kubeconfig];
  const listed = (env["KUBECONFIG"] ?? "").split(delimiter).filter((file) => file !== "");
  if (listed.length > 0) return listed;
  const home = env["HOME"] ?? "";
  const usual = join(home, ".kube", "config");
  return home !== "" && existsSync(usual) ? [usual] : [];
}

const mounted = "/var/run/secrets/kubernetes.io/serviceaccount";

/** As every Pod has it: https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/ */
async function useServiceAccount(config: KubeConfig, target: KubeTarget): Promise<void> {
  const folder = target.serviceAccountFolder ?? mounted;
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = target.env;
  const hasToken = existsSync(join(folder, "token"));
  if (host === undefined || host === "" || !hasToken) {
    const found = hasToken ? "no KUBERNETES_SERVICE_HOST" : "no ServiceAccount token";
    throw new PgkitError("config", `no Kubernetes cluster is named: no kubeconfig, and ${found} here`, {
      hint: "set KUBECONFIG, or in a Pod automountServiceAccountToken: true",
    });
  }
  const server = `https://${isIPv6(host) ? `[${host}]` : host}:${port ?? 443}`;
  const name = "inCluster";
  const namespace = (await readFile(join(folder, "namespace"), "utf8")).trim();
  const provider = { name: "tokenFile", config: { tokenFile: join(folder, "token") } };
  config.loadFromOptions({
    clusters: [{ name, server, caFile: join(folder, "ca.crt"), skipTLSVerify: false }],
    users: [{ name, authProvider: provider }],
    contexts: [{ name, cluster: name, user: name, namespace }],
    currentContext: name,
  });
}
