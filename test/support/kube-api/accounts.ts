import { randomBytes } from "node:crypto";
import { type Kind, Refusal } from "./objects.ts";

export interface Rule {
  apiGroups: string[];
  resources: string[];
  verbs: string[];
  resourceNames?: string[];
}

export interface Request {
  verb: string;
  kind: Kind;
  subresource: string | undefined;
  namespace: string;
  name: string | undefined;
}

/** Who a token is, and what it may do: RBAC's rules, per namespace (`*` is all, as a ClusterRole bound cluster-wide). */
export interface Accounts {
  add(user: string, rules: Record<string, Rule[]>): string;
  /** Changes what an account may do. */
  allow(user: string, rules: Record<string, Rule[]>): void;
  /** The token is no longer taken. */
  expire(token: string): void;
  /** A new token of the same account. */
  rotate(user: string): string;
  authenticate(authorization: string | undefined): string;
  authorize(user: string, request: Request): void;
}

export const everything: Rule[] = [{ apiGroups: ["*"], resources: ["*"], verbs: ["*"] }];

export function createAccounts(): Accounts {
  const tokens = new Map<string, string>();
  const rules = new Map<string, Record<string, Rule[]>>();
  const token = (user: string) => {
    const text = randomBytes(20).toString("hex");
    tokens.set(text, user);
    return text;
  };
  return {
    add(user, given) {
      rules.set(user, given);
      return token(user);
    },
    allow: (user, given) => void rules.set(user, given),
    expire: (text) => void tokens.delete(text),
    rotate: token,
    authenticate(authorization) {
      const user = tokens.get(/^Bearer (.*)$/.exec(authorization ?? "")?.[1] ?? "");
      if (user === undefined) throw new Refusal(401, "Unauthorized", "Unauthorized");
      return user;
    },
    authorize(user, request) {
      const { verb, kind, subresource, namespace, name } = request;
      const resource = subresource === undefined ? kind.plural : `${kind.plural}/${subresource}`;
      const given = rules.get(user) ?? {};
      const has = (list: string[], wanted: string) => list.includes("*") || list.includes(wanted);
      const fits = (rule: Rule) =>
        has(rule.apiGroups, kind.group) &&
        has(rule.resources, resource) &&
        has(rule.verbs, verb) &&
        (rule.resourceNames === undefined || (verb !== "create" && rule.resourceNames.includes(name ?? "")));
      if ([...(given["*"] ?? []), ...(namespace === "" ? [] : (given[namespace] ?? []))].some(fits)) return;
      const of = name === undefined || verb === "create" ? "" : ` "${name}"`;
      const group = kind.group === "" ? "" : `.${kind.group}`;
      const scope = namespace === "" ? "at the cluster scope" : `in the namespace "${namespace}"`;
      const message = `${kind.plural}${group}${of} is forbidden: User "${user}" cannot ${verb} resource "${resource}" in API group "${kind.group}" ${scope}`;
      throw new Refusal(403, "Forbidden", message, { name, group: kind.group, kind: kind.plural });
    },
  };
}
