import { expect, test } from "vitest";
import { isPgkitError } from "../../src/lib/errors.ts";
import { secret } from "../../src/lib/secret.ts";
import { libpqEnvironment, parseConnection } from "../../src/postgres/connection.ts";

const hostsOf = (url: string) => parseConnection(url, undefined).hosts.map(({ host, port }) => `${host}:${port}`);

test.each([
  ["postgresql://u@db.example/app", ["db.example:5432"]],
  ["postgresql://u@db.example:6432/app", ["db.example:6432"]],
  ["postgresql://u@a,b:6000/app", ["a:5432", "b:6000"]],
  ["postgresql://u@[::1]:6000/app", ["::1:6000"]],
  ["postgresql://u@localhost:6000/app?host=/run/pg", ["/run/pg:6000"]],
  ["postgresql://u@/app?host=a,b&port=1,2", ["a:1", "b:2"]],
  ["postgresql://u@%2Frun%2Fpg/app", ["/run/pg:5432"]],
])("%s is reached where libpq would reach it", (url, hosts) => {
  expect(hostsOf(url)).toEqual(hosts);
});

test.each([
  "postgresql://u@db:port/app",
  "postgresql://u@db:70000/app",
  "postgresql://u@db/app?sslmode=maybe",
  "postgresql://db/app",
  "mysql://u@db/app",
  "postgresql://u@db/app?sslmod=require",
])("%s is refused as a wrong setting", (url) => {
  let caught: unknown;
  try {
    parseConnection(url, undefined);
  } catch (error) {
    caught = error;
  }
  expect(isPgkitError(caught, "config")).toBe(true);
});

test("programs get user, database and password by variables, and any name of a database as it is", () => {
  const connection = parseConnection("postgresql://us%40er@db/app?sslrootcert=/ca.crt", secret("s3cret"));
  expect(libpqEnvironment(connection, 'we"ird-Ä', "pgkit")).toMatchObject({
    PGHOST: "db",
    PGUSER: "us@er",
    PGDATABASE: 'we"ird-Ä',
    PGPASSWORD: "s3cret",
    PGSSLROOTCERT: "/ca.crt",
  });
});
