import { homedir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { StorageConfig } from "../store/open.ts";
import type { EncryptionConfig, RepositoryConfig } from "./config.ts";
import type { FileProblem } from "./config-file.ts";
import { globalOptions } from "./options/global.ts";
import type { Option } from "./options/option.ts";
import { repositoryOptions } from "./options/repository.ts";
import { listEncryption, listStorage, listVolumes, topEncryption, topStorage, topVolumes } from "./options/table.ts";
import { repositoryUrl } from "./options/values.ts";
import type { Settings } from "./settings.ts";

/**
 * The repositories of this run. `--repository` and `PGKIT_REPOSITORY` choose one of `repositories:` by name or URL, or
 * name another; then come `repositories:` and `repository:` of the file, then a folder of the user's data folder.
 * One of `repositories:` has the `storage:` and `encryption:` of the top of the file where it has none of its own.
 */
export function repositoriesOf(
  settings: Settings,
  { env, cwd }: { env: Readonly<Record<string, string | undefined>>; cwd: string },
  problems: FileProblem[],
): readonly RepositoryConfig[] {
  const listed = listedRepositories(settings, problems);
  const top = (url: string): RepositoryConfig => ({ name: "repository", url, ...topSettings(settings) });
  const single = settings.get(repositoryOptions.url);
  if (single !== undefined && listed.length > 0) {
    const where = settings.place("repository") ?? "";
    problems.push({ message: `${where}: the file has both repository and repositories`, hint: "keep one of them" });
  }
  const chosen = settings.get(globalOptions.repository);
  if (chosen !== undefined) {
    const parsed = repositoryUrl.parse([chosen], cwd);
    const url = "value" in parsed ? parsed.value : undefined;
    const known = listed.find((repository) => repository.name === chosen || repository.url === url);
    if (known !== undefined) return [known];
    if (url !== undefined) return [top(url)];
    const source = settings.source(globalOptions.repository);
    const where = "where" in source ? source.where : "--repository";
    problems.push({
      message: `${where} must be ${repositoryUrl.allowed}, not '${chosen.replace(/\/\/[^/@]*@/, "//***@")}'`,
      hint: "storage: and the variables PGKIT_STORAGE_... say what the URL cannot",
    });
  }
  if (listed.length > 0) return listed;
  return [top(single ?? userRepository(env))];
}

function userRepository(env: Readonly<Record<string, string | undefined>>): string {
  const data = env["XDG_DATA_HOME"] || join(env["HOME"] || homedir(), ".local", "share");
  return pathToFileURL(join(data, "pgkit", "repository")).href;
}

function listedRepositories(settings: Settings, problems: FileProblem[]): RepositoryConfig[] {
  const repositories = settings.names("repositories").flatMap((index) => {
    const where = settings.place("repositories", index) ?? "";
    const url = settings.get(repositoryOptions.listUrl, index);
    if (url === undefined) {
      problems.push({ message: `${where}: a repository must have a url` });
      return [];
    }
    const name = settings.get(repositoryOptions.listName, index) ?? `repository-${Number(index) + 1}`;
    const top = topSettings(settings);
    const own = listSettings(settings, index);
    const has = (part: string) => settings.place("repositories", index, part) !== undefined;
    const { storage, volumeBytes, objectLockMs } = has("storage") ? own : top;
    const { encryption } = has("encryption") ? own : top;
    return [{ name, url, storage, volumeBytes, objectLockMs, encryption, where }];
  });
  for (const [index, { name, url, where }] of repositories.entries()) {
    const twin = repositories.slice(0, index).find((other) => other.name === name || other.url === url);
    if (twin !== undefined) problems.push({ message: `${where}: this repository has the name or url of another` });
  }
  return repositories.map(({ where: _, ...repository }) => repository);
}

type RepositorySettings = Omit<RepositoryConfig, "name" | "url">;

function topSettings(settings: Settings): RepositorySettings {
  return {
    storage: storageOf(settings, topStorage, []),
    encryption: encryptionOf(settings, topEncryption, []),
    volumeBytes: settings.get(topVolumes.volumeSize),
    objectLockMs: settings.get(topVolumes.objectLock),
  };
}

function listSettings(settings: Settings, index: string): RepositorySettings {
  return {
    storage: storageOf(settings, listStorage, [index]),
    encryption: encryptionOf(settings, listEncryption, [index]),
    volumeBytes: settings.get(listVolumes.volumeSize, index),
    objectLockMs: settings.get(listVolumes.objectLock, index),
  };
}

function storageOf(
  settings: Settings,
  rows: typeof topStorage | typeof listStorage,
  names: readonly string[],
): StorageConfig {
  const given = Object.entries(rows).flatMap(([key, row]) => {
    const value = settings.get<Option<unknown>>(row, ...names);
    return value === undefined ? [] : [[key, value] as const];
  });
  return Object.fromEntries(given);
}

function encryptionOf(
  settings: Settings,
  rows: typeof topEncryption | typeof listEncryption,
  names: readonly string[],
): EncryptionConfig {
  return {
    recipients: settings.get(rows.recipients, ...names) ?? [],
    identityFile: settings.get(rows.identityFile, ...names),
  };
}
