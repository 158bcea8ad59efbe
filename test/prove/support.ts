import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { onTestFinished } from "vitest";
import { secret } from "../../src/lib/secret.ts";
import { systemClock } from "../../src/lib/time.ts";
import { parseConnection } from "../../src/postgres/connection.ts";
import { type CheckRequest, check } from "../../src/prove/check.ts";
import type { InstanceUnderCheck } from "../../src/prove/checks/instance.ts";
import type { RepositoryUnderCheck } from "../../src/prove/checks/repository.ts";
import { exitStatusOf, type Finding } from "../../src/prove/finding.ts";
import { memoryStore } from "../../src/store/memory.ts";
import type { ObjectStore } from "../../src/store/store.ts";
import type { Cluster } from "../support/cluster.ts";

export async function emptyFolder(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "pgkit-test-"));
  onTestFinished(async () => await rm(path, { recursive: true, force: true }));
  return path;
}

/** An instance on a test's server, as `user` where one is given. */
export function instanceOn(
  { programs, url }: Pick<Cluster, "programs" | "url">,
  rest: Partial<InstanceUnderCheck> & { user?: string; password?: string; host?: string; sslMode?: string } = {},
): InstanceUnderCheck {
  const { user, password, host, sslMode = "prefer", ...overrides } = rest;
  const parts = new URL(url());
  const address = `postgresql://${user ?? parts.username}@${host ?? parts.hostname}:${parts.port}/postgres?sslmode=${sslMode}`;
  return {
    name: "shared",
    databases: { include: undefined, exclude: [] },
    connections: 4,
    schedule: { logical: undefined, timeZone: "UTC", graceMs: 3_600_000 },
    retention: { logical: {}, base: {} },
    connection: async () => parseConnection(address, secret(password ?? parts.password)),
    programsFor: async () => programs,
    ...overrides,
  };
}

/** A repository in a store, which is neither a folder nor local unless the URL says so. */
export function repositoryOf(store: ObjectStore, rest: Partial<RepositoryUnderCheck> = {}): RepositoryUnderCheck {
  return {
    url: "memory:",
    storage: {},
    encryption: { recipients: [], identityFile: undefined },
    objectLockMs: undefined,
    openStore: async () => store,
    identities: async () => Promise.reject(new Error("no identity was expected to be read")),
    ...rest,
  };
}

export interface Checked {
  findings: Finding[];
  bugs: unknown[];
  status: number;
  /** Those of one check, in order. */
  of(check: string, subject?: string): Finding[];
  /** `check: message` of each warning and error. */
  problems(): string[];
}

/** Runs the checks; a check may take 20 seconds unless the test says otherwise. */
export async function checked(request: Partial<CheckRequest>): Promise<Checked> {
  const { findings, bugs } = await check({
    instances: [],
    repositories: [],
    scratchFolder: tmpdir(),
    timeZone: "UTC",
    dryRun: false,
    deadlineMs: 20_000,
    clock: systemClock,
    signal: new AbortController().signal,
    report: () => undefined,
    ...request,
  });
  return {
    findings,
    bugs,
    status: exitStatusOf(findings),
    of: (name, subject) =>
      findings.filter((each) => each.check === name && (subject === undefined || each.subject === subject)),
    problems: () =>
      findings.filter(({ level }) => level !== "ok").map(({ check: name, message }) => `${name}: ${message}`),
  };
}

export function checkedStore(
  store: ObjectStore = memoryStore(),
  rest: Partial<RepositoryUnderCheck> = {},
  request: Partial<CheckRequest> = {},
) {
  return checked({ ...request, repositories: [repositoryOf(store, rest)] });
}
