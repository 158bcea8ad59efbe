import { glob, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { run } from "../cli/run.ts";
import { type Cluster, startCluster } from "../support/cluster.ts";
import { emptyFolder } from "./support.ts";

let cluster: Cluster;

beforeAll(async () => {
  cluster = await startCluster();
});

afterAll(async () => await cluster[Symbol.asyncDispose]());

async function pgkit(line: string, { password = cluster.password, more = "" } = {}) {
  const above = await emptyFolder();
  const config = `repository: ${join(above, "backups")}
instances:
  shared:
    url: postgresql://postgres@127.0.0.1:${cluster.port}/postgres
    passwordFrom: { env: SHARED_PASSWORD }
${more}`;
  const ran = await run(line.split(" "), { files: { "pgkit.yaml": config }, env: { SHARED_PASSWORD: password } });
  expect(await readdir(above), "check makes no repository").toEqual([]);
  return ran;
}

describe("pgkit check", () => {
  it("prints one aligned line a finding, remedies at their ends, and the sum last", async () => {
    const { status, stdout, stderr } = await pgkit("check");
    expect(status).toBe(0);
    const [title = "", ...lines] = stdout.trimEnd().split("\n");
    const sum = lines.splice(-2);
    expect(sum).toEqual(["", expect.stringMatching(/^\d+ ok, 2 warnings, 0 errors$/)]);
    const column = title.indexOf("FINDING");
    for (const line of lines) {
      expect(line).toMatch(
        /^(ok|WARNING|ERROR) +(this machine|instance shared|repository file:|backups of shared|archiving of shared)/,
      );
      expect(line.slice(column - 2, column)).toBe("  ");
    }
    expect(lines.filter((line) => line.startsWith("WARNING")).every((line) => line.includes("; fix: "))).toBe(true);
    expect(stderr).toContain("check instance shared: started");
  });

  it("gives the findings as one document with --json, and the status of the first error", async () => {
    const { status, stdout } = await pgkit("check shared --json", { password: "not-the-right-one" });
    expect(status).toBe(12);
    const { findings } = JSON.parse(stdout) as { findings: { subject: string; check: string; level: string }[] };
    expect(findings).toContainEqual(
      expect.objectContaining({
        subject: "instance shared",
        check: "connection",
        level: "error",
        code: "postgres-denied",
        remedy: expect.any(String),
      }),
    );
    expect(stdout).not.toContain("not-the-right-one");
  });

  it("checks the named instance alone, and refuses a name that is not configured", async () => {
    const more = "  other:\n    url: postgresql://postgres@127.0.0.1:1/postgres\n";
    expect((await pgkit("check shared", { more })).status).toBe(0);
    expect((await pgkit("check", { more })).status).toBe(14);
    const typo = await pgkit("check sharde", { more });
    expect(typo.status).toBe(2);
    expect(typo.stderr).toContain("did you mean 'shared'?");
  });

  it("writes nothing under --dry-run", async () => {
    const { status, stdout } = await pgkit("check --dry-run");
    expect(status).toBe(0);
    expect(stdout).toContain("left out");
  });

  it("ends at once on a signal, without findings", async () => {
    const silent = await emptyFolder();
    const config = `repository: ${silent}\ninstances:\n  shared:\n    url: postgresql://postgres@127.0.0.1:${cluster.port}/postgres\n    passwordFrom: { secret: { namespace: a, name: b, key: c } }\n`;
    let signal: (name: string) => void = () => undefined;
    const ran = await run(["check"], {
      files: { "pgkit.yaml": config },
      onStart: (outside) => {
        signal = outside.signal;
      },
      readSecret: () => {
        signal("SIGINT");
        return new Promise(() => undefined);
      },
    });
    expect(ran.status).toBe(130);
    expect(ran.stdout).toBe("");
  });
});

it("docs/check.md explains every check there is, and no other", async () => {
  const root = join(import.meta.dirname, "..", "..");
  const names = new Set<string>();
  for await (const path of glob(["src/prove/**/*.ts", "src/wal/health*.ts"], { cwd: root })) {
    const text = await readFile(join(root, path), "utf8");
    for (const [, name = ""] of text.matchAll(/(?:\b(?:run|ask)\(\s*|\bname: )"([a-z ]+)"/g)) names.add(name);
  }
  const page = await readFile(join(root, "docs", "check.md"), "utf8");
  const explained = new Set([...page.matchAll(/^\| `([a-z ]+)` \|/gm)].map(([, name = ""]) => name));
  expect([...explained].sort()).toEqual([...names].sort());
});
