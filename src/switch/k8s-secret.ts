import { type Kube, nameOf } from "../kube/kube.ts";
import { type Owner, ownerOf } from "../kube/owner.ts";
import type { Secret as SecretObject } from "../kube/workloads.ts";
import { isPgkitError, PgkitError } from "../lib/errors.ts";
import type { Report } from "../lib/report.ts";
import type { Secret } from "../lib/secret.ts";
import type { Clock } from "../lib/time.ts";
import { changesOfKeys, endpointOfKeys, type KeysContext } from "./endpoint-keys.ts";
import { putBack } from "./k8s-fight.ts";
import { pointByGit } from "./k8s-gitops.ts";
import { secretPlan } from "./k8s-plan.ts";
import { restartUsers, waitForUsers } from "./k8s-rollout.ts";
import type { SecretSwitch } from "./open.ts";
import { spellAddress, switchConflict } from "./switch-errors.ts";
import { type Endpoint, type EndpointAddress, isSameAddress, type Switcher } from "./switcher.ts";

export interface SecretSwitchDeps {
  readonly kube: Kube;
  /** The database where no key names it. */
  readonly database: string;
  readonly clock: Clock;
  readonly report: Report;
  readonly keep?: ((text: string) => Secret) | undefined;
  /** The folder for what is to be committed, where somebody owns the Secret. */
  readonly gitopsOut?: string | undefined;
  /** Changes the Secret although somebody owns it. */
  readonly overrideGitops?: boolean | undefined;
  /** How long the workloads may take to be ready, 5 minutes where left out. */
  readonly rolloutMs?: number | undefined;
  /** How long a commit may take to reach the cluster, 30 minutes where left out. */
  readonly commitMs?: number | undefined;
  /** How long a change is watched for somebody who puts it back, 1 s where left out; `settle` looks again. */
  readonly fightMs?: number | undefined;
  /**
   * True: `point` itself waits until the workloads are ready, and points back where they are not. Left out, `settle` waits: a move
   * keeps the target closed until the switch is done, so that nothing becomes ready before.
   */
  readonly waits?: boolean | undefined;
}

/** What the parts of this switcher share. */
export interface SecretPlace extends SecretSwitchDeps {
  readonly config: SecretSwitch;
  readonly where: string;
  readonly context: KeysContext;
}

/** On the Secret and on the template of each Pod that reads it: where pgkit has pointed them. Holds no secret. */
export const pointedAt = "pgkit.dev/points-at";

/**
 * A Kubernetes Secret that the application reads as environment or files. It is changed under its resourceVersion, and
 * the workloads that use it are restarted. What Git or a controller owns is not changed: see `plan`.
 */
export function secretSwitcher(config: SecretSwitch, deps: SecretSwitchDeps): Switcher {
  const where = `Secret ${config.namespace}/${config.name}`;
  const place: SecretPlace = { ...deps, config, where, context: { where, database: deps.database, keep: deps.keep } };
  return {
    where,
    kind: "secret",
    current: async (signal) => endpointOf(place, await readSecret(place, signal)),
    point: (from, to, signal) => point(place, from, to, signal),
    settle: async (signal) => {
      const now = await readSecret(place, signal);
      const at = endpointOf(place, now);
      if (now.metadata.annotations?.[pointedAt] !== undefined && !saysWhere(now, at)) throw putBack(place, now, at);
      await waitForUsers(place, signal);
    },
    plan: async (to, signal) => secretPlan(place, await readSecret(place, signal), to, signal),
  };
}

async function point(place: SecretPlace, from: EndpointAddress, to: Endpoint, signal: AbortSignal): Promise<void> {
  const before = await readSecret(place, signal);
  const now = endpointOf(place, before);
  if (!isSameAddress(now, from) && !isSameAddress(now, to)) throw switchConflict(place.where, now, from, to);
  const owner = ownerOf(before);
  if (changesTo(place, before, to).size > 0) {
    if (owner !== undefined && place.overrideGitops !== true) {
      await byGit(place, before, owner, to, signal);
    } else {
      await write(place, from, to, signal);
      await watchForFight(place, to, signal);
    }
  } else if (before.metadata.annotations?.[pointedAt] === undefined) {
    // Not by us: whoever reads it reads this already.
    return;
  }
  await restartUsers(place, to, signal);
  if (place.waits === true) await waitOrGoBack(place, before, to, signal);
}

/** Never where nobody said how it should be committed: what is written by hand is put back, some time later. */
async function byGit(place: SecretPlace, secret: SecretObject, owner: Owner, to: Endpoint, signal: AbortSignal) {
  if (place.gitopsOut === undefined) {
    throw new PgkitError("switch-failed", `${place.where} belongs to ${owner.who}, which would put it back`, {
      hint: `${owner.commit}; or --gitops-out DIR writes the patch, --override-gitops changes it all the same`,
    });
  }
  await pointByGit(place, secret, owner, to, signal);
}

/** Compare and set: only while it points at `from`; changes of others beside that are kept. */
async function write(place: SecretPlace, from: EndpointAddress, to: Endpoint, signal: AbortSignal): Promise<void> {
  for (;;) {
    const secret = await readSecret(place, signal);
    const changes = changesTo(place, secret, to);
    if (changes.size === 0) return;
    const now = endpointOf(place, secret);
    if (!isSameAddress(now, from) && !isSameAddress(now, to)) throw switchConflict(place.where, now, from, to);
    if (secret.immutable === true) throw immutable(place);
    const data = Object.fromEntries([...changes].map(([key, value]) => [key, base64(value)]));
    const merge = { metadata: { annotations: { [pointedAt]: spellAddress(to) } }, data };
    try {
      await place.kube.patch(refOf(place), { merge, resourceVersion: secret.metadata.resourceVersion }, signal);
      return;
    } catch (error) {
      // Somebody else was faster, or our answer was lost: what is there now decides.
      if (!isPgkitError(error, "kube-conflict")) throw error;
    }
  }
}

/** A second controller answers within moments, and would go on doing so. */
async function watchForFight(place: SecretPlace, to: Endpoint, signal: AbortSignal): Promise<void> {
  await place.clock.delay(place.fightMs ?? 1000, signal);
  const now = await readSecret(place, signal);
  const at = endpointOf(place, now);
  if (!isSameAddress(at, to)) throw putBack(place, now, at);
}

async function waitOrGoBack(
  place: SecretPlace,
  before: SecretObject,
  to: Endpoint,
  signal: AbortSignal,
): Promise<void> {
  try {
    await waitForUsers(place, signal);
  } catch (error) {
    if (signal.aborted || !isPgkitError(error, "not-ready")) throw error;
    const former = endpointOf(place, before);
    place.report({
      type: "warning",
      message: `${error.message}; pointing ${place.where} back at ${spellAddress(former)}`,
    });
    await write(place, to, former, signal);
    await restartUsers(place, former, signal);
    throw new PgkitError("switch-failed", `${error.message}; it was pointed back at ${spellAddress(former)}`, {
      ...(error.hint === undefined ? {} : { hint: error.hint }),
      cause: error,
    });
  }
}

/** Fails with `switch-failed` where there is no such Secret. */
export async function readSecret(place: SecretPlace, signal: AbortSignal): Promise<SecretObject> {
  signal.throwIfAborted();
  const found = await place.kube.get<SecretObject>(refOf(place), signal);
  if (found !== undefined) return found;
  throw new PgkitError("switch-failed", `there is no ${nameOf(refOf(place))} in ${place.kube.where}`, {
    hint: "is its name in switch.secret spelled right, and its namespace?",
  });
}

function endpointOf({ config, context }: SecretPlace, secret: SecretObject): Endpoint {
  return endpointOfKeys(textsOf(secret), config.keys, context);
}

/** The keys that must change to lead to `to`. */
export function changesTo({ config, context }: SecretPlace, secret: SecretObject, to: Endpoint): Map<string, string> {
  return changesOfKeys(textsOf(secret), config.keys, to, context);
}

function textsOf({ data = {} }: SecretObject): Map<string, string> {
  return new Map(Object.entries(data).map(([key, value]) => [key, Buffer.from(value, "base64").toString("utf8")]));
}

function saysWhere({ metadata }: SecretObject, at: Endpoint): boolean {
  return metadata.annotations?.[pointedAt] === spellAddress(at);
}

export function refOf({ config: { namespace, name } }: SecretPlace) {
  return { apiVersion: "v1", kind: "Secret", namespace, name };
}

export function base64(text: string): string {
  return Buffer.from(text, "utf8").toString("base64");
}

function immutable({ where }: SecretPlace): PgkitError {
  return new PgkitError("switch-failed", `${where} is immutable: nobody can change it`, { hint: immutableHint });
}

export const immutableHint =
  "make a Secret of another name without immutable: true, let the application use it, and name it in switch.secret";
