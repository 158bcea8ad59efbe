import { PgkitError } from "../../lib/errors.ts";
import { identifier, literal } from "../../postgres/quote.ts";
import { dumpRoles } from "../../postgres/roles.ts";
import { dropRoles } from "../drop-roles.ts";
import { applicationPasswords, applicationRoles, comparePasswords, refusedPassword } from "../role-passwords.ts";
import { differences, type RoleFacts, roleFacts } from "../roles.ts";
import { scramVerifier } from "../scram.ts";
import { onTarget } from "../stage.ts";
import type { MoveContext, Step } from "../step.ts";
import { runOnTarget } from "../target-database.ts";

/** Names only: passwords and verifiers go from server to server and are never journaled. */
export interface RolesPlan {
  /** That are not on the target yet; undo drops exactly these. */
  create: readonly string[];
  /** That are there, and stay as they are. */
  existing: readonly string[];
}

export const copyRolesStep: Step<RolesPlan, { created: number }> = {
  name: "copy-roles",
  does: "makes the roles that the database needs on the target, with their passwords, memberships and settings; those that exist stay as they are",
  check: async (context, plan) => {
    if (plan === undefined) return "todo";
    const missing = await missingOnTarget(context, [...plan.create, ...plan.existing]);
    if (missing.length === 0) return "done";
    return missing.length < plan.create.length ? "partial" : "todo";
  },
  prepare,
  run: async (context, plan) => {
    const { script } = await context.session("source", dumpRoles);
    const passwords = await passwordStatements(context, await missingOnTarget(context, plan.create));
    const all = [...passwords.map((each) => `${each};\n`), membershipOfOwn([...plan.create, ...plan.existing])];
    await runOnTarget(context, `${script}${all.join("")}`, context.move.database);
    return { created: plan.create.length };
  },
  verify: async (context) => {
    const { names } = await context.session("source", dumpRoles);
    const missing = await missingOnTarget(context, names);
    if (missing.length === 0) return;
    throw new PgkitError("verification-failed", `${missing.join(", ")} are no roles on ${context.target.instance}`, {
      hint: "were they made on the source meanwhile? resume the move: it makes them",
    });
  },
  undo: async (context, plan) => {
    if (plan !== undefined) await dropRoles(context, plan.create, { among: [...plan.create, ...plan.existing] });
  },
};

/** For psql. Who is no superuser makes and alters things of a role as its member, which from 16 on takes both options. */
function membershipOfOwn(names: readonly string[]): string {
  if (names.length === 0) return "";
  return `SELECT format('GRANT %I TO %I', rolname, current_user)
      || CASE WHEN current_setting('server_version_num')::int >= 160000 THEN ' WITH INHERIT TRUE, SET TRUE' ELSE '' END
    FROM pg_catalog.pg_roles WHERE NOT current_setting('is_superuser')::bool AND NOT rolsuper
      AND rolname IN (${names.map(literal).join(", ")}) AND NOT pg_catalog.pg_has_role(rolname, 'USAGE') \\gexec
`;
}

/** Fails with `move-refused` where the application could not log in on the target. */
async function prepare(context: MoveContext): Promise<RolesPlan> {
  const { names, owner, here } = await context.session("source", async (session) => {
    const { names } = await dumpRoles(session);
    const [database] = await session.query<{ owner: string }>(
      "SELECT pg_get_userbyid(datdba) AS owner FROM pg_database WHERE datname = current_database()",
    );
    return { names, owner: database?.owner ?? "", here: await roleFacts(session, names) };
  });
  const maintenance = context.target.connection.database;
  const there = await context.session("target", (session) => roleFacts(session, names), maintenance);
  const passwords = await applicationPasswords(context);
  const needed = applicationRoles(passwords, owner);
  for (const role of here) {
    const own = passwords.get(role.name);
    const found = there.find(({ name }) => name === role.name);
    const isApplication = needed.includes(role.name) && role.login;
    if (found === undefined) judgeNew(context, role, isApplication && own === undefined);
    else judgeExisting(context, role, found, { own, isApplication });
  }
  const existing = there.map(({ name }) => name);
  return { create: names.filter((name) => !existing.includes(name)), existing };
}

function judgeNew(context: MoveContext, role: RoleFacts, needsPassword: boolean): void {
  if (role.verifier !== undefined || !role.login) return;
  const why = `would have no password on ${context.target.instance}: it can be read neither on ${context.source.instance} nor by a switcher`;
  if (needsPassword) throw refusedPassword(context, role.name, why);
  const hint = `set it there by ALTER ROLE, or let pgkit connect to ${context.source.instance} as a superuser`;
  context.report({ type: "warning", message: `role ${role.name} ${why}`, hint });
}

function judgeExisting(
  context: MoveContext,
  source: RoleFacts,
  target: RoleFacts,
  { own, isApplication }: { own: Parameters<typeof comparePasswords>[2]; isApplication: boolean },
): void {
  const { instance } = context.target;
  const found = differences(source, target);
  const hint = `ALTER ROLE on ${instance} where that matters: pgkit does not change roles that others may use`;
  if (found.length > 0) {
    const message = `role ${source.name} is on ${instance} already and stays as it is: ${found.join("; ")}`;
    context.report({ type: "warning", message, hint });
  }
  // A superuser is no application: preflight refuses that.
  const verdict = source.login && source.traits.SUPERUSER !== "true" ? comparePasswords(source, target, own) : "same";
  if (verdict === "same") return;
  const what = verdict === "different" ? "has another password" : "may have another password";
  const why = `is on ${instance} already and ${what} there`;
  // Not known is refused too: an application that cannot log in is found out only when it has been switched.
  if (isApplication) throw refusedPassword(context, source.name, why);
  context.report({ type: "warning", message: `role ${source.name} ${why}`, hint });
}

/** For new roles whose passwords cannot be read on the source: the application's own, out of what is switched. */
async function passwordStatements(context: MoveContext, names: readonly string[]): Promise<string[]> {
  const facts = await context.session("source", (session) => roleFacts(session, names));
  const passwords = await applicationPasswords(context);
  return facts.flatMap(({ name, verifier }) => {
    const own = passwords.get(name);
    if (verifier !== undefined || own === undefined) return [];
    return [`ALTER ROLE ${identifier(name)} PASSWORD ${literal(scramVerifier(own.reveal())).trim()}`];
  });
}

async function missingOnTarget(context: MoveContext, names: readonly string[]): Promise<string[]> {
  const rows = await onTarget<{ name: string }>(
    context,
    "SELECT name FROM unnest($1::text[]) AS needed (name) WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name)",
    [names],
  );
  return rows.map(({ name }) => name);
}
