import { dirname, join } from "node:path";
import { PgkitError } from "../../lib/errors.ts";
import type { InstanceRestore, RestoredInstance } from "../../restore/instance.ts";
import { describeTarget } from "../../restore/recovery-target.ts";
import type { CommandArguments, CommandContext } from "../command.ts";
import { harmless } from "../text.ts";

/** `pgkit restore --data-dir DIR --put-back NAME`, or `--drop-aside NAME`. */
export async function restoreAsideCommand(context: CommandContext, { flags }: CommandArguments): Promise<number> {
  const { dataDir, putBack: back, dropAside: drop } = flags;
  if (dataDir === undefined || (back !== undefined && drop !== undefined) || flags.setAside !== undefined) {
    throw new PgkitError("usage", "one of --put-back and --drop-aside goes with --data-dir", {
      hint: "pgkit restore --data-dir DIR --put-back NAME",
    });
  }
  const { putBack, dropAside } = await import("../../restore/set-aside.ts");
  const place = { dataDir, name: nameOf(back ?? drop ?? "") };
  const old = join(dirname(dataDir), place.name);
  if (flags.dryRun) {
    const does = drop === undefined ? `puts ${old} back as ${dataDir}` : `removes ${old}`;
    context.out.result({ json: { dataDir, aside: old, does, dryRun: true }, text: does });
    return 0;
  }
  if (drop !== undefined) {
    await context.confirm(`removes ${old}`);
    const { removed } = await dropAside(place);
    context.out.result({
      json: { dataDir, aside: old, removed },
      text: removed ? `removed ${old}` : `there is no ${old}`,
    });
    return 0;
  }
  await context.confirm(`puts ${old} back as ${dataDir}`);
  const { put, kept } = await putBack(place);
  const was = put ? `${dataDir} is what it was before` : `nothing is set aside as ${old}`;
  const text = kept === undefined ? was : `${was}; what had been restored is kept as ${kept}`;
  context.out.result({ json: { dataDir, aside: old, put, ...(kept === undefined ? {} : { kept }) }, text });
  return 0;
}

type Restoring = Pick<InstanceRestore, "plan" | "dataDir" | "tablespaces">;

/** Runs a restore after what is in the data directory was set aside; told whether it goes over what is there. */
export async function withAside(
  { flags }: CommandArguments,
  { plan, dataDir, tablespaces }: Restoring,
  run: (delta: boolean) => Promise<RestoredInstance>,
): Promise<RestoredInstance> {
  if (flags.setAside === undefined) return run(flags.delta);
  const outside = plan.backup.base.tablespaces.find(
    ({ oid, location }) => location.startsWith("/") && !tablespaces.has(oid),
  );
  if (outside !== undefined) {
    throw new PgkitError("usage", `--set-aside does not rename the tablespace ${outside.name} (${outside.location})`, {
      hint: `say where it goes: --tablespace ${outside.name}=DIR`,
    });
  }
  const { setAside, noteRestored } = await import("../../restore/set-aside.ts");
  const place = { dataDir, name: nameOf(flags.setAside) };
  const request = { is: `${plan.backup.id} to ${describeTarget(plan.target)}`, bytes: plan.restoredBytes };
  const state = await setAside(place, request);
  // Written by `noteRestored`, below.
  if (state.type === "restored") return state.result as RestoredInstance;
  const restored = await run(flags.delta || state.type === "going-on");
  await noteRestored(place, request, restored);
  return restored;
}

/** Where what was there before is kept, and what removes it. */
export function asideOf({ flags }: CommandArguments, dataDir: string): { path: string; text: string } | undefined {
  if (flags.setAside === undefined) return undefined;
  const path = join(dirname(dataDir), flags.setAside);
  const remove = `pgkit restore --data-dir ${dataDir} --drop-aside ${flags.setAside}`;
  return { path, text: harmless(`what was there before is kept as ${path}; when it is not needed: ${remove}`) };
}

function nameOf(text: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,200}$/.test(text)) return text;
  throw new PgkitError("usage", `'${text}' is no name of a directory beside the data directory`, {
    hint: "letters, digits, dots, dashes and underscores, such as data.before",
  });
}
