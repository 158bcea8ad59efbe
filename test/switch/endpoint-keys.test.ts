import { describe, expect, test } from "vitest";
import { secret } from "../../src/lib/secret.ts";
import { changesOfKeys, type EndpointKeys, endpointOfKeys } from "../../src/switch/endpoint-keys.ts";

const context = { where: "the env file /etc/app.env", database: "litellm", keep: secret };
const to = { host: "new", port: 6432, database: "litellm" };
const values = (given: Record<string, string>) => new Map(Object.entries(given));

describe("an endpoint in keys", () => {
  const parts = { host: "DB_HOST", port: "DB_PORT", user: "DB_USER", password: "DB_PASSWORD", database: "DB_NAME" };
  const held = { DB_HOST: "old\n", DB_PORT: "5432", DB_USER: "u", DB_PASSWORD: " p ", DB_NAME: "litellm", OTHER: "x" };

  test("is read out of its parts, and only what differs is changed", () => {
    const now = endpointOfKeys(values(held), parts, context);
    expect(now).toMatchObject({ host: "old", port: 5432, database: "litellm", user: "u" });
    expect(now.password?.reveal(), "a password is taken as it is").toBe(" p ");
    expect(Object.fromEntries(changesOfKeys(values(held), parts, to, context))).toEqual({
      DB_HOST: "new",
      DB_PORT: "6432",
    });
    expect(changesOfKeys(values(held), parts, { host: "old", port: 5432, database: "litellm" }, context).size).toBe(0);
    const login = { ...to, user: "v", password: secret("q") };
    expect(Object.fromEntries(changesOfKeys(values(held), parts, login, context))).toMatchObject({
      DB_USER: "v",
      DB_PASSWORD: "q",
    });
  });

  test("as a URL and in parts: both are changed, and must agree", () => {
    const keys: EndpointKeys = { url: "URL", host: "DB_HOST" };
    const both = values({ URL: "postgres://u:p@old/litellm\n", DB_HOST: "old" });
    expect(Object.fromEntries(changesOfKeys(both, keys, to, context))).toEqual({
      URL: "postgres://u:p@new:6432/litellm\n",
      DB_HOST: "new",
    });
    expect(changesOfKeys(both, keys, { host: "old", port: 5432, database: "litellm" }, context).size).toBe(0);
    const apart = values({ URL: "postgres://u:s3cret@old/litellm", DB_HOST: "elsewhere" });
    expect(() => endpointOfKeys(apart, keys, context)).toThrow(/old:5432\/litellm, its other keys to elsewhere:5432/);
    expect(() => endpointOfKeys(apart, keys, context)).not.toThrow(/s3cret/);
  });

  test("what no key holds cannot be changed", () => {
    const only = values({ DB_HOST: "old" });
    expect(() => changesOfKeys(only, { host: "DB_HOST" }, to, context)).toThrow(/port 6432, and no key/);
    expect(() => changesOfKeys(only, { host: "DB_HOST" }, { ...to, port: 5432, database: "x" }, context)).toThrow(
      /database x/,
    );
    expect(changesOfKeys(only, { host: "DB_HOST" }, { ...to, port: 5432 }, context)).toEqual(
      values({ DB_HOST: "new" }),
    );
  });

  test.each([
    [{ url: "URL" }, { A: "s3cret" }, /no key URL.*hold the url/],
    [{ url: "URL" }, { URL: "s3cret" }, /URL of the env file \/etc\/app.env is no connection string/],
    [{ host: "H", port: "P" }, { H: "old", P: "x" }, /P of the env file .* is no port: x/],
    [{ host: "H" }, { H: "" }, /H of the env file .* is empty/],
    [{ port: "P" }, { P: "5432" }, /neither a url nor a host key/],
  ])("%j is refused", (keys, held, message) => {
    const read = () => endpointOfKeys(values(held), keys, context);
    expect(read).toThrow(expect.objectContaining({ code: "config", message: expect.stringMatching(message) }));
    expect(read).not.toThrow(/s3cret/);
  });
});
