import { applicationOptions, endpointKeyOptions } from "./application.ts";
import { archiveOptions, baseOptions } from "./archive.ts";
import { commandOptions } from "./command.ts";
import { connectionOptions, globalOptions, machineOptions } from "./global.ts";
import { instanceOptions, retentionBaseOptions, retentionLogicalOptions } from "./instance.ts";
import { kubernetesOptions } from "./kubernetes.ts";
import type { Option } from "./option.ts";
import { encryptionOptions, leaseOptions, repositoryOptions, volumeOptions } from "./repository.ts";
import { storageOptions } from "./storage.ts";

export const topStorage = storageOptions("");
export const topVolumes = volumeOptions("");
export const topEncryption = encryptionOptions("");
export const listStorage = storageOptions("repositories.[].");
export const listVolumes = volumeOptions("repositories.[].");
export const listEncryption = encryptionOptions("repositories.[].");

/**
 * The option table: every flag, variable and key of the file that pgkit knows. The command line, the reading of the
 * environment and of the file, completion and `docs/reference.md` all come from it. Groups are as the reference shows them.
 */
export const optionTable: readonly { readonly title: string; readonly rows: readonly Option<unknown>[] }[] = [
  { title: "Every command", rows: Object.values(globalOptions) },
  { title: "Single commands", rows: Object.values(commandOptions) },
  { title: "Repository", rows: Object.values(repositoryOptions) },
  { title: "Storage", rows: [topStorage, topVolumes, listStorage, listVolumes].flatMap(Object.values) },
  { title: "Encryption", rows: [...Object.values(topEncryption), ...Object.values(listEncryption)] },
  { title: "This machine", rows: [...Object.values(machineOptions), ...Object.values(leaseOptions)] },
  { title: "The instance `default`", rows: Object.values(connectionOptions) },
  { title: "Instances", rows: Object.values(instanceOptions) },
  { title: "Base backups", rows: Object.values(baseOptions) },
  { title: "Archiving", rows: Object.values(archiveOptions) },
  { title: "Retention", rows: [...Object.values(retentionLogicalOptions), ...Object.values(retentionBaseOptions)] },
  {
    title: "Applications",
    rows: [applicationOptions, endpointKeyOptions.secret, endpointKeyOptions.envFile].flatMap(Object.values),
  },
  { title: "Kubernetes", rows: Object.values(kubernetesOptions) },
];

export const allOptions: readonly Option<unknown>[] = optionTable.flatMap((group) => group.rows);
