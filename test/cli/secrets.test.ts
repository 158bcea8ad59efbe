import { inspect } from "node:util";
import { expect, test } from "vitest";
import { PgkitError } from "../../src/lib/errors.ts";
import { secretVault } from "../../src/lib/secret.ts";
import { printConfig, type RunOptions, run, testCommand } from "./run.ts";

const password = 'pa"ss w%rd/@1';
const inUrl = encodeURIComponent(password);

/** Every way in which a password can get into a run, each with the password it gives. */
const sources: [string, RunOptions][] = [
  ["the url", { files: { "pgkit.yaml": `instances: { a: { url: 'postgresql://u:${inUrl}@h/d' } }` } }],
  [
    "the url's parameters",
    { files: { "pgkit.yaml": `instances: { a: { url: 'postgresql://u@h/d?password=${inUrl}' } }` } },
  ],
  ["PGPASSWORD", { env: { PGPASSWORD: password } }],
  [
    "a variable",
    {
      files: { "pgkit.yaml": "instances: { a: { url: 'postgresql://u@h/d', passwordFrom: { env: PW } } }" },
      env: { PW: password },
    },
  ],
  [
    "a file",
    {
      files: {
        "pgkit.yaml": "instances: { a: { url: 'postgresql://u@h/d', passwordFrom: { file: pw } } }",
        pw: `${password}\n`,
      },
    },
  ],
  [
    "~/.pgpass",
    {
      files: {
        "pgkit.yaml": "instances: { a: { url: 'postgresql://u@h:5433/d' } }",
        ".pgpass": `# mine\nh:5432:*:*:wrong\nh:5433:*:u:${password}\n`,
      },
    },
  ],
  [
    "PGPASSFILE",
    { files: { "mine.txt": `*:*:*:*:${password}` }, env: { PGPASSFILE: "./mine.txt", PGUSER: "u", PGHOST: "h" } },
  ],
  [
    "a Kubernetes Secret",
    {
      files: {
        "pgkit.yaml":
          "instances: { a: { url: 'postgresql://u@h/d', passwordFrom: { secret: { namespace: n, name: s, key: k } } } }",
      },
      readSecret: async ({ namespace, name, key }) => (`${namespace}/${name}/${key}` === "n/s/k" ? password : "wrong"),
    },
  ],
];

test.each(sources)("a password from %s is used, and printed by nothing", async (_, options) => {
  let used: string | undefined;
  const command = testCommand(async (context) => {
    const connection = await context.connection(context.instance());
    used = connection.password?.reveal();
    const said = `connecting to ${inspect(connection)} ${JSON.stringify(context.config)} with ${used} (${inUrl})`;
    context.report({ type: "start", task: said });
    context.report({ type: "note", message: said });
    context.report({ type: "failed", task: said, message: said, hint: said });
    context.out.result({ json: { said, config: context.config }, text: said });
    throw new PgkitError("postgres-denied", said, { hint: said, cause: new Error(said) });
  });
  for (const flags of [
    [],
    ["--verbose"],
    ["--json", "--verbose"],
    ["--progress", "json", "--verbose"],
    ["--progress", "bar"],
  ]) {
    const env = { ...options.env };
    const ran = await run(["try", ...flags], { ...options, env, isTTY: flags.includes("bar"), commands: [command] });
    expect(used).toBe(password);
    expect(ran.status).toBe(12);
    for (const form of [password, inUrl, JSON.stringify(password).slice(1, -1), "w%rd", "w%25rd"]) {
      expect(ran.stdout + ran.stderr).not.toContain(form);
    }
    expect(ran.stdout + ran.stderr).toContain("***");
  }
});

test.each([
  ["secretAccessKey", "wJalrXUtnFEMI/K7MDENG"],
  ["sessionToken", "FwoGZXIvYXdzEBY"],
  ["accountKey", "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1"],
  ["sas", "?sv=2022-11-02&sig=q83AbCdEf"],
  ["connectionString", "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=Eby8vdM02xNO;EndpointSuffix=x"],
  ["sseCustomerKey", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="],
])("the storage's %s comes from the file or a variable, and is printed by nothing", async (key, secret) => {
  const variable = `PGKIT_STORAGE_${key.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
  const inside = /(?:AccountKey|sig)=([^;&]+)/.exec(secret)?.[1] ?? secret;
  for (const options of [
    { files: { "pgkit.yaml": `storage: { ${key}: '${secret}' }` } },
    { env: { [variable]: secret } },
  ]) {
    let used: unknown;
    const command = testCommand(async (context) => {
      used = Object.entries(context.config.repositories[0]?.storage ?? {}).find(([name]) => name === key)?.[1];
      throw new Error(`refused: ${secret} ${inside} ${encodeURIComponent(secret)}`);
    });
    const ran = await run(["try", "--verbose", "--json"], { ...options, commands: [command] });
    expect(used).toBe(secret);
    expect(ran.stderr).toContain("refused: ***");
    expect(ran.stderr).not.toContain(inside);
  }
});

test("the printed configuration holds no password", async () => {
  for (const [, options] of sources) {
    const ran = await run(["print-config", "--json"], { ...options, commands: [printConfig] });
    expect(ran.status).toBe(0);
    expect(ran.stdout).not.toMatch(/w%rd|w%25rd|\*\*\*/);
  }
});

test.each(["postgres", "tenant", "tenant_1", "Prod-1.db"])(
  "a password that is also a name, %s, blots nothing out of a result, and is in no message",
  async (word) => {
    const files = { "pgkit.yaml": `instances: { a: { url: 'postgresql://u:${word}@h/d' } }` };
    const json = { database: word, roles: [`${word}_reader`], url: `postgresql://u:${word}@h/d` };
    const command = testCommand(async (context) => {
      context.out.result({ json, text: `${word} of ${word}_reader at postgresql://u:${word}@h/d` });
      context.report({ type: "warning", message: `the password is ${word}` });
      throw new PgkitError("postgres-denied", `connecting with ${word}`);
    });
    const asJson = await run(["try", "--json"], { files, commands: [command] });
    expect(JSON.parse(asJson.stdout)).toEqual({ ...json, url: "postgresql://u:***@h/d" });
    const asText = await run(["try"], { files, commands: [command] });
    expect(asText.stdout).toBe(`${word} of ${word}_reader at postgresql://u:***@h/d\n`);
    for (const { stderr } of [asJson, asText]) {
      expect(stderr).not.toContain(word);
      expect(stderr).toContain("connecting with ***");
    }
  },
);

test("a wrong URL with a password is refused without it", async () => {
  const files = { "pgkit.yaml": `instances: { a: { url: 'postgresql://u:hunter22@h:99999/d' } }` };
  const ran = await run(["print-config", "--verbose"], { files, commands: [printConfig] });
  expect(ran).toMatchObject({ status: 2, stderr: expect.stringContaining("instances.a.url") });
  expect(ran.stderr).not.toContain("hunter22");
});

test.each([
  "url: 'postgresql://u:hunter22@h/d' hunter23",
  "url: *hunter22",
  "url: !hunter22 x",
  "url: |hunter22\n x",
  "url: [x\nhunter22",
])("a YAML error does not quote the file: %s", async (line) => {
  const files = { "pgkit.yaml": `instances:\n  a:\n    ${line}\n` };
  const ran = await run(["print-config", "--verbose"], { files, commands: [printConfig] });
  expect(ran).toMatchObject({ status: 2, stderr: expect.stringContaining("pgkit: pgkit.yaml:") });
  expect(ran.stderr).not.toMatch(/hunter2/);
});

test("an age private key where a recipient belongs is not repeated", async () => {
  const files = { "pgkit.yaml": "encryption: { recipients: [AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQ] }" };
  const ran = await run(["print-config"], { files, commands: [printConfig] });
  expect(ran).toMatchObject({ status: 2, stderr: expect.stringContaining("encryption.recipients must be") });
  expect(ran.stderr).not.toContain("QQQQ");
});

const connect = testCommand(async (context) => {
  const { password: found } = await context.connection(context.instance());
  context.out.raw(found === undefined ? "none" : "some");
  return 0;
});
const fromVariable = "instances: { a: { url: 'postgresql://u@h/d', passwordFrom: { env: PW } } }";
const fromFile = "instances: { a: { url: 'postgresql://u@h/d', passwordFrom: { file: pw } } }";

test.each([
  [{ "pgkit.yaml": fromVariable }, "the password of instance a should be in the variable PW, which is not set"],
  [{ "pgkit.yaml": fromFile }, "which cannot be read: ENOENT"],
  [{ "pgkit.yaml": fromFile, pw: "\n" }, "which is empty"],
])("a password that is not where it should be is a configuration error", async (files, message) => {
  const ran = await run(["try"], { files, commands: [connect] });
  expect(ran).toMatchObject({ status: 2, stderr: expect.stringContaining(message) });
});

test("a password file that others can read is ignored, and that is said", async () => {
  const { chmodSync } = await import("node:fs");
  const files = { ".pgpass": "*:*:*:*:secret", "pgkit.yaml": "instances: { a: { url: 'postgresql://u@h/d' } }" };
  const onStart = ({ folder }: { folder: string }) => chmodSync(`${folder}/.pgpass`, 0o644);
  const ran = await run(["try"], { files, onStart, commands: [connect] });
  expect(ran).toMatchObject({ status: 0, stdout: "none\n" });
  expect(ran.stderr).toContain("is ignored: others may read it\nhint: chmod 600");
});

test("the vault finds a secret in every form, and leaves short words alone", () => {
  const vault = secretVault();
  vault.keep("abc");
  vault.keep("long secret");
  expect(vault.scrub("abc long secret long%20secret postgresql://u:other@h/d")).toBe(
    "abc *** *** postgresql://u:***@h/d",
  );
  expect(inspect({ s: vault.keep("another secret") }, { depth: 9 })).not.toContain("another secret");
});
