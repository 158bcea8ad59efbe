import { readFile } from "node:fs/promises";
import { dirname, join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { PgkitError } from "../lib/errors.ts";
import type { Address, ManifestInstance, ManifestsRequest } from "../manifests/request.ts";
import { parseConnection } from "../postgres/connection.ts";
import type { Config, InstanceConfig, RepositoryConfig } from "./config.ts";
import { type FileProblem, readConfigFile } from "./config-file.ts";
import { scheduleProblems, textProblems } from "./manifests-problems.ts";
import { allOptions } from "./options/table.ts";
import { settingsError } from "./settings.ts";

const configFolder = "/etc/pgkit";

/**
 * What `pgkit manifests` renders for a configuration. Fails with `config`, naming every problem: what a ConfigMap must not
 * hold, what a Pod would not find, and what Kubernetes would not take.
 */
export async function manifestsRequest(
  config: Config,
  instances: readonly InstanceConfig[],
  { needsSchedule = true } = {},
): Promise<ManifestsRequest> {
  const { file, inCluster } = config;
  if (file === undefined) {
    throw new PgkitError("config", "there is no configuration file to render manifests of", {
      hint: "write a pgkit.yaml, or name one by --config: variables of this machine mean nothing in a cluster",
    });
  }
  const text = await readFile(file, "utf8");
  const { values } = await readConfigFile(text, file, allOptions);
  const identityFiles = [...new Set(config.repositories.flatMap(({ encryption }) => encryption.identityFile ?? []))];
  const certificates = [...certificatesOf(config, instances)];
  const problems: FileProblem[] = [
    ...(inCluster.image === undefined ? [{ message: `${file}: kubernetes.image is missing`, hint: imageHint }] : []),
    ...textProblems(values),
    ...(needsSchedule ? scheduleProblems(file, instances) : []),
    ...secretFileProblems([...identityFiles, ...passwordFiles(instances)]),
  ];
  const configFiles: Record<string, string> = { "pgkit.yaml": text };
  for (const path of certificates) await addCertificate(path, { folder: dirname(file), configFiles, problems });
  if (problems.length > 0) throw settingsError("config", problems);
  return {
    ...inCluster,
    image: inCluster.image ?? "",
    ...{ configFiles, identityFiles },
    storeCredentials: credentialsOf(config.repositories),
    stores: config.repositories.flatMap(storeAddress),
    folders: config.repositories.flatMap(({ url }) => (url.startsWith("file:") ? [fileURLToPath(url)] : [])),
    instances: instances.map(manifestInstance),
  };
}

const imageHint = "docker build -t REGISTRY/pgkit:VERSION . && docker push REGISTRY/pgkit:VERSION; then name it there";

function manifestInstance({ name, url, passwordFrom, schedule, archive, base }: InstanceConfig): ManifestInstance {
  const { timeZone, graceMs, logical, base: baseCron, prune, verify, check } = schedule;
  return {
    name,
    servers: [url, ...(base.standby === undefined ? [] : [base.standby])].flatMap(addressesOf),
    // One in the URL is refused before.
    password: passwordFrom?.type === "known" ? undefined : passwordFrom,
    ...{ timeZone, graceMs },
    schedule: { logical, base: baseCron, prune, verify, check },
    isStreamed: archive.method === "stream" && baseCron !== undefined,
    streamFolder: archive.streamFolder,
  };
}

function addressesOf(url: string): Address[] {
  return parseConnection(url, undefined).hosts.filter(({ host }) => !host.startsWith("/")) as Address[];
}

function storeAddress({ url, storage }: RepositoryConfig): Address[] {
  if (url.startsWith("file:")) return [];
  if (storage.endpoint !== undefined) {
    const { hostname, port, protocol } = new URL(storage.endpoint);
    return [{ host: hostname.replace(/^\[|\]$/g, ""), port: Number(port) || (protocol === "http:" ? 80 : 443) }];
  }
  const { host, protocol } = new URL(url);
  return [{ host: protocol === "s3:" ? `${host}.s3.amazonaws.com` : `${host}.blob.core.windows.net`, port: 443 }];
}

/** Each cloud's own variables, or pgkit's where it has none. */
function credentialsOf(repositories: readonly RepositoryConfig[]): string[][] {
  const has = (scheme: string) => repositories.some(({ url }) => url.startsWith(`${scheme}:`));
  const customer = repositories.some(({ storage }) => storage.sse === "customer");
  return [
    ...(has("s3") ? [["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]] : []),
    ...(customer ? [["PGKIT_STORAGE_SSE_CUSTOMER_KEY"]] : []),
    ...(has("azure")
      ? [["PGKIT_STORAGE_ACCOUNT_KEY"], ["PGKIT_STORAGE_SAS"], ["PGKIT_STORAGE_CONNECTION_STRING"]]
      : []),
  ];
}

function passwordFiles(instances: readonly InstanceConfig[]): string[] {
  return instances.flatMap(({ passwordFrom }) => (passwordFrom?.type === "file" ? [passwordFrom.path] : []));
}

/** A volume takes the whole folder that it is mounted at. */
function secretFileProblems(paths: readonly string[]): FileProblem[] {
  return paths
    .filter((path) => ["/", configFolder, "/scratch", "/etc", "/run", "/tmp"].includes(posix.dirname(path)))
    .map((path) => ({
      message: `${path} would come from the Secret, which cannot be mounted at ${posix.dirname(path)}`,
      hint: `name a folder of its own: /run/secrets/pgkit/${posix.basename(path)}`,
    }));
}

function* certificatesOf({ repositories }: Config, instances: readonly InstanceConfig[]): Generator<string> {
  for (const { storage } of repositories) if (storage.caFile !== undefined) yield storage.caFile;
  for (const { url } of instances) {
    const { sslrootcert } = parseConnection(url, undefined).parameters;
    if (sslrootcert?.startsWith("/")) yield sslrootcert;
  }
}

/** A certificate is no secret: it goes into the ConfigMap, from beside the file. */
async function addCertificate(
  path: string,
  into: { folder: string; configFiles: Record<string, string>; problems: FileProblem[] },
): Promise<void> {
  const name = posix.basename(path);
  const here = join(into.folder, name);
  if (posix.dirname(path) !== configFolder && posix.dirname(path) !== into.folder) {
    const hint = `write ${configFolder}/${name}, and lay the file beside the configuration: it goes into the ConfigMap`;
    into.problems.push({ message: `the certificate ${path} would not be in the pods`, hint });
    return;
  }
  const text = await readFile(here, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
    into.problems.push({ message: `there is no ${here} for the ConfigMap`, hint: `it becomes ${path} in the pods` });
  });
  if (text !== undefined) into.configFiles[name] = text;
}
