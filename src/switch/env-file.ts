import { PgkitError } from "../lib/errors.ts";
import type { Secret } from "../lib/secret.ts";
import { changesOfKeys, type EndpointKeys, endpointOfKeys, type KeysContext } from "./endpoint-keys.ts";
import { type EnvVariable, envVariables, refersToOthers, withChanges } from "./env-text.ts";
import { readWhole, replaceFile } from "./replace-file.ts";
import { spellAddress, switchConflict } from "./switch-errors.ts";
import { type Endpoint, isSameAddress, type Switcher } from "./switcher.ts";

export interface EnvFileSwitch {
  readonly path: string;
  readonly keys: EndpointKeys;
}

export interface EnvFileDeps {
  /** The database where no key names it. */
  readonly database: string;
  readonly keep?: ((text: string) => Secret) | undefined;
}

const what = "the env file";

/** An env file that the application reads when it starts: the values are changed where they stand, all at once. */
export function envFileSwitcher({ path, keys }: EnvFileSwitch, { database, keep }: EnvFileDeps): Switcher {
  const where = `${what} ${path}`;
  const context: KeysContext = { where, database, keep };
  const read = async (): Promise<Content> => {
    const text = await readWhole(path, what);
    const wanted = Object.values(keys).filter((key) => key !== undefined);
    const variables = envVariables(text, wanted, where);
    return { text, variables, endpoint: knownEndpoint(variables, keys, context) };
  };
  return {
    where,
    kind: "env-file",
    current: async (signal) => {
      signal.throwIfAborted();
      return (await read()).endpoint;
    },
    point: async (from, to, signal) => {
      signal.throwIfAborted();
      const { text, variables, endpoint } = await read();
      if (!isSameAddress(endpoint, from) && !isSameAddress(endpoint, to))
        throw switchConflict(where, endpoint, from, to);
      const changes = [...changesOf(variables, keys, to, context)].flatMap(([key, changed]) => {
        const variable = variables.get(key);
        if (variable === undefined) return [];
        // A URL holds nothing that its quotes could not: its own escapes, and those of the quotes, stay as they are.
        return [key === keys.url ? { variable, raw: changed } : { variable, value: changed }];
      });
      const after = withChanges(text, changes);
      if (after !== text) await replaceFile(path, text, after, what);
    },
    plan: async (to) => {
      const { variables } = await read();
      const changes = changesOf(variables, keys, to, context);
      return {
        does: [`writes ${spellAddress(to)} into ${[...changes.keys()].join(", ") || "nothing"} of ${where}`],
        refusals: [],
        warnings: [
          {
            message: `${where} is read when the application starts: one that runs goes on with the old server's address, which refuses it`,
            hint: "restart the application when pgkit move says that it has switched, or let switch.command do it",
          },
        ],
      };
    },
  };
}

interface Content {
  readonly text: string;
  readonly variables: ReadonlyMap<string, EnvVariable>;
  readonly endpoint: Endpoint;
}

function changesOf(
  variables: ReadonlyMap<string, EnvVariable>,
  keys: EndpointKeys,
  to: Endpoint,
  context: KeysContext,
): Map<string, string> {
  const values = new Map([...variables].map(([name, { raw, value }]) => [name, name === keys.url ? raw : value]));
  return changesOfKeys(values, keys, to, context);
}

/** A value made of other variables leads where those say. */
function knownEndpoint(
  variables: ReadonlyMap<string, EnvVariable>,
  keys: EndpointKeys,
  context: KeysContext,
): Endpoint {
  const endpoint = endpointOfKeys(new Map([...variables].map(([name, { value }]) => [name, value])), keys, context);
  const { host, database, password, ...rest } = endpoint;
  if (/\$/.test(host) || database.includes("${")) {
    throw new PgkitError("config", `${context.where} has an endpoint that refers to other variables`, {
      hint: "name the keys that hold them in keys: of the switch, such as { host: DB_HOST, port: DB_PORT }",
    });
  }
  // A password that is put in from elsewhere is not known here.
  const holders = [keys.url, keys.password].flatMap((key) => (key === undefined ? [] : (variables.get(key) ?? [])));
  const isKnown = password !== undefined && !holders.some(refersToOthers);
  return { ...rest, host, database, ...(isKnown ? { password } : {}) };
}
