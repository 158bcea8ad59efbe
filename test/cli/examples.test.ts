import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Config } from "../../src/cli/config.ts";
import { printConfig, run } from "./run.ts";

const project = join(import.meta.dirname, "..", "..");
const examples = join(project, "docs", "examples");
const read = (...path: string[]) => readFileSync(join(project, ...path), "utf8");

/** What pgkit makes of a file; the paths in it need not be here. */
async function load(yaml: string, env: Record<string, string> = {}) {
  const files: Record<string, string> = yaml === "" ? {} : { "pgkit.yaml": yaml };
  const ran = await run(["print-config", "--json"], { files, env, commands: [printConfig] });
  expect(ran, ran.stderr).toMatchObject({ status: 0, stderr: "" });
  const config: Pick<Config, "repositories"> & { instances: Record<string, { retention: { logical: object } }> } =
    JSON.parse(ran.stdout);
  return config;
}

test.each(readdirSync(examples).filter((name) => name.endsWith(".yaml")))("docs/examples/%s loads", async (name) => {
  const config = await load(read("docs", "examples", name));
  expect(Object.keys(config.instances)).not.toEqual(["default"]);
});

test("docs/examples/environment.env is all that one host needs", async () => {
  const lines = read("docs", "examples", "environment.env")
    .split("\n")
    .filter((line) => /^\w+=/.test(line));
  const env = Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]),
  );
  const config = await load("", env);
  expect(config.repositories).toMatchObject([{ url: "file:///backups" }]);
  expect(config.repositories[0]?.encryption.recipients).toHaveLength(1);
});

test("the configuration in the README loads", async () => {
  const [, yaml = ""] = /```yaml\n([\s\S]*?)```/.exec(read("README.md")) ?? [];
  expect(Object.keys((await load(yaml)).instances)).toEqual(["shared", "litellm"]);
});
