import { describe, expect, test } from "vitest";
import { secret } from "../../src/lib/secret.ts";
import { parseEndpointUrl, pointEndpointUrl } from "../../src/switch/endpoint-url.ts";

const where = "DATABASE_URL in the Secret litellm/litellm-db";
const to = { host: "new.databases", port: 6432, database: "litellm" };
const same = { host: "new.databases", port: 5432, database: "litellm" };

describe("a connection URL is pointed elsewhere", () => {
  test.each([
    ["postgresql://u:p@old:5432/litellm", "postgresql://u:p@new.databases:6432/litellm"],
    ["postgres://u:p@old/litellm", "postgres://u:p@new.databases:6432/litellm"],
    [
      "postgresql+asyncpg://u:p@old:5432/litellm?ssl=require",
      "postgresql+asyncpg://u:p@new.databases:6432/litellm?ssl=require",
    ],
    [
      "jdbc:postgresql://old:5432/litellm?user=u&password=p%26q",
      "jdbc:postgresql://new.databases:6432/litellm?user=u&password=p%26q",
    ],
    ["postgres://u:a%40b%3Ac%2F@old:5432/litellm", "postgres://u:a%40b%3Ac%2F@new.databases:6432/litellm"],
    ["postgres://u:p@ss@old:5432/litellm", "postgres://u:p@ss@new.databases:6432/litellm"],
    ["postgres://u:p#w$1@old:5432/litellm", "postgres://u:p#w$1@new.databases:6432/litellm"],
    ["postgres://u:p@[::1]:5432/litellm", "postgres://u:p@new.databases:6432/litellm"],
    [
      "postgres://u:p@a:5432,b:5433/litellm?target_session_attrs=read-write",
      "postgres://u:p@new.databases:6432/litellm?target_session_attrs=read-write",
    ],
    [
      "postgres://u:p@/litellm?host=/cloudsql/a:b:c&connect_timeout=3",
      "postgres://u:p@/litellm?host=new.databases&connect_timeout=3&port=6432",
    ],
    ["postgres://u@old?sslmode=require&dbname=other", "postgres://u@new.databases:6432?sslmode=require&dbname=litellm"],
    ["postgres://other@old", "postgres://other@new.databases:6432/litellm"],
    ["  postgresql://u:p@old:5432/litellm?a=b&a=c&&\n", "  postgresql://u:p@new.databases:6432/litellm?a=b&a=c&&\n"],
    ["host=old port=5432 dbname=other user=u password='it''s'", undefined],
    ["host=old  dbname = litellm password='a \\' b' # ", undefined],
    [
      "host='old'  password='a \\' host=x' dbname=litellm\n",
      "host=new.databases  password='a \\' host=x' dbname=litellm port=6432\n",
    ],
    ["host=old port=5432 dbname=x user=u", "host=new.databases port=6432 dbname=litellm user=u"],
  ])("%s", (text, expected) => {
    if (expected === undefined) {
      expect(() => pointEndpointUrl(text, to, { where })).toThrow(/no connection string/);
      return;
    }
    const pointed = pointEndpointUrl(text, to, { where });
    expect(pointed).toBe(expected);
    expect(parseEndpointUrl(pointed, { where })).toMatchObject(to);
    expect(pointEndpointUrl(pointed, to, { where }), "again: not a byte").toBe(pointed);
    expect(parseEndpointUrl(pointed, { where }).password?.reveal()).toBe(
      parseEndpointUrl(text, { where }).password?.reveal(),
    );
  });

  test.each([
    "postgresql://u:p%41@old/li%74ellm?x",
    "postgres://u:p@a,b:5432/litellm",
    "postgres://u:p@a:5432,[::1]:5433/litellm",
    "postgresql://u:p@%2Frun%2Fpg/litellm",
    "host=a,b port=5432,5433 dbname=litellm",
    "host=/run/pg dbname=litellm",
    "postgresql://u:p@/litellm?host=/run/pg",
  ])("there and back leads where it led: %s", (text) => {
    const before = parseEndpointUrl(text, { where });
    const there = pointEndpointUrl(text, to, { where });
    expect(parseEndpointUrl(there, { where })).toMatchObject(to);
    const back = pointEndpointUrl(
      there,
      { host: before.host, port: before.port, database: before.database },
      { where },
    );
    expect({ ...parseEndpointUrl(back, { where }), password: 0 }).toEqual({ ...before, password: 0 });
    expect(pointEndpointUrl(text, before, { where }), "where it is already: every byte as it was").toBe(text);
  });

  test("the default port stays unsaid where it was", () => {
    expect(pointEndpointUrl("postgres://u@old/litellm", same, { where })).toBe("postgres://u@new.databases/litellm");
    expect(pointEndpointUrl("postgres://u@old:5432/litellm", same, { where })).toBe(
      "postgres://u@new.databases:5432/litellm",
    );
    expect(pointEndpointUrl("host=old dbname=litellm", same, { where })).toBe("host=new.databases dbname=litellm");
  });

  test("an IPv6 address, a socket's folder and an odd database name are escaped", () => {
    const point = (host: string, database: string) =>
      pointEndpointUrl("postgres://u:p@old/x", { host, port: 1, database }, { where });
    expect(point("::1", "a/b?c")).toBe("postgres://u:p@[::1]:1/a%2Fb%3Fc");
    expect(point("/run/pg", "x")).toBe("postgres://u:p@%2Frun%2Fpg:1/x");
    expect(pointEndpointUrl("host=a dbname=b", { host: "c", port: 5432, database: "d e'" }, { where })).toBe(
      "host=c dbname='d e\\''",
    );
  });

  test("user and password are changed only where they are given", () => {
    const given = { ...to, user: "new user", password: secret("p@:/ #") };
    const url = pointEndpointUrl("postgres://u:p@old/litellm", given, { where });
    expect(url).toBe("postgres://new%20user:p%40%3A%2F%20%23@new.databases:6432/litellm");
    const jdbc = pointEndpointUrl("jdbc:postgresql://old/litellm?user=u&password=p", given, { where });
    expect(parseEndpointUrl(jdbc, { where })).toMatchObject({ user: "new user" });
    expect(parseEndpointUrl(jdbc, { where }).password?.reveal()).toBe("p@:/ #");
  });

  test.each([
    "mysql://u:s3cret-word@h/d",
    "postgres://u:s3cret-word/x@h:5432/d",
    "postgres://u:s3cret-word@h:port/d",
    "postgres://u:s3cret-word@h:0/d",
    "postgres://u:s3cret-word%zz@h/d",
    "postgres://:s3cret-word@/",
    "postgres://u:s3cret-word@/d",
    "postgres://u:s3cret-word@h/d?host=a&host=b",
    "postgres://u:s3cret-word@h/d?hostaddr=1.2.3.4",
    "postgres://u:s3cret-word@h/d?service=x",
    "postgres://u:s3cret-word@/d?host=a:5432",
    "host=a password=s3cret-word hostaddr=1.2.3.4",
    "password=s3cret-word dbname=x",
    "s3cret-word",
    "",
  ])("what cannot be switched is refused, and its password not shown: %s", (text) => {
    const refused = (() => {
      try {
        pointEndpointUrl(text, to, { where });
      } catch (error) {
        return error as Error;
      }
      return undefined;
    })();
    expect(refused).toMatchObject({ code: "config", message: expect.stringContaining(where) });
    expect(`${refused?.message} ${refused?.stack} ${JSON.stringify(refused)}`).not.toContain("s3cret");
  });
});
