import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import type { Owner } from "../kube/owner.ts";
import { waitFor } from "../kube/wait.ts";
import type { Secret } from "../kube/workloads.ts";
import { PgkitError } from "../lib/errors.ts";
import { formatDuration } from "../lib/parse.ts";
import { base64, changesTo, refOf, type SecretPlace } from "./k8s-secret.ts";
import { spellAddress } from "./switch-errors.ts";
import type { Endpoint } from "./switcher.ts";

const usualCommitMs = 1_800_000;

/**
 * Writes what must be committed for the Secret to lead to `to`, and waits until the cluster shows it. Only the changed keys are
 * written, for Kustomize; a SealedSecret is sealed as a whole. Fails with `switch-failed` where no commit comes.
 */
export async function pointByGit(
  place: SecretPlace,
  secret: Secret,
  owner: Owner,
  to: Endpoint,
  signal: AbortSignal,
): Promise<void> {
  const { kube, clock, report, commitMs = usualCommitMs, where } = place;
  const files =
    owner.type === "sealed-secret" ? await sealed(place, secret, to, signal) : kustomizePatch(place, secret, to);
  const folder = await writeFiles(place, files);
  report({
    type: "note",
    message: `wrote ${Object.keys(files).join(", ")} into ${folder}: ${owner.commit}; waiting for the cluster to show it`,
  });
  const until = (found: Secret | undefined) =>
    found !== undefined && changesTo(place, found, to).size === 0
      ? { done: true }
      : { waiting: `it to lead to ${spellAddress(to)}` };
  try {
    await waitFor<Secret, boolean>(kube, refOf(place), { until, withinMs: commitMs, clock }, signal);
  } catch (cause) {
    signal.throwIfAborted();
    const message = `${where} did not come to lead to ${spellAddress(to)} within ${formatDuration(commitMs)}`;
    throw new PgkitError("switch-failed", message, {
      hint: `commit what is in ${folder}, and see what holds ${owner.who} up`,
      cause,
    });
  }
}

/** https://kubectl.docs.kubernetes.io/references/kustomize/kustomization/patches/ */
function kustomizePatch(place: SecretPlace, secret: Secret, to: Endpoint): Record<string, string> {
  const { namespace, name } = place.config;
  const data = Object.fromEntries([...changesTo(place, secret, to)].map(([key, value]) => [key, base64(value)]));
  const patch = { apiVersion: "v1", kind: "Secret", metadata: { name, namespace }, data };
  const target = { version: "v1", kind: "Secret", name, namespace };
  // YAML reads JSON; a folder with both can be used as a Kustomize component as it is.
  const component = {
    apiVersion: "kustomize.config.k8s.io/v1alpha1",
    kind: "Component",
    patches: [{ path: "secret-patch.yaml", target }],
  };
  return { "secret-patch.yaml": json(patch), "kustomization.yaml": json(component) };
}

async function sealed(
  place: SecretPlace,
  secret: Secret,
  to: Endpoint,
  signal: AbortSignal,
): Promise<Record<string, string>> {
  const { namespace, name, kubeseal } = place.config;
  const [program, ...args] = kubeseal ?? [];
  if (program === undefined) {
    throw new PgkitError("switch-failed", `${place.where} is made from a SealedSecret, and no kubeseal is configured`, {
      hint: "set switch.secret.kubeseal",
    });
  }
  const changed = Object.fromEntries([...changesTo(place, secret, to)].map(([key, value]) => [key, base64(value)]));
  const { labels } = secret.metadata;
  const manifest = {
    ...{ apiVersion: "v1", kind: "Secret", type: secret.type ?? "Opaque" },
    metadata: { name, namespace, ...(labels === undefined ? {} : { labels }) },
    data: { ...secret.data, ...changed },
  };
  const ran = await execa(program, args, { input: json(manifest), reject: false, cancelSignal: signal });
  if (ran.exitCode !== 0 || ran.stdout === "") {
    const said = ran.stderr.split("\n")[0] || ran.shortMessage || "it wrote nothing";
    throw new PgkitError("switch-failed", `kubeseal did not seal ${place.where}: ${said}`, {
      hint: "does it work by hand, with the certificate of this cluster's controller?",
    });
  }
  return { "sealed-secret.yaml": `${ran.stdout}\n` };
}

/** What is written can hold a password: for this user alone. */
async function writeFiles({ config, gitopsOut = "." }: SecretPlace, files: Record<string, string>): Promise<string> {
  const folder = join(gitopsOut, `${config.namespace}-${config.name}`);
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    for (const [name, text] of Object.entries(files)) {
      const path = join(folder, name);
      // The mode is that of a new file: one of another mode does not stay.
      await rm(path, { force: true });
      await writeFile(path, text, { mode: 0o600, flag: "wx" });
    }
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new PgkitError("switch-failed", `cannot write what is to be committed into ${folder}: ${code}`, {
      hint: "does --gitops-out name a directory that this user may write to?",
      cause,
    });
  }
  return folder;
}

function json(value: object): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}
