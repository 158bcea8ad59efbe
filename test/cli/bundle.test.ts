import { type ChildProcess, execFile, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { build } from "esbuild";
import { afterAll, beforeAll, expect, test } from "vitest";
import packageJson from "../../package.json" with { type: "json" };

const root = join(import.meta.dirname, "..", "..");
let folder = "";
let bin = "";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "pgkit-bundle-"));
  bin = join(folder, "bin", "pgkit.js");
  await promisify(execFile)(process.execPath, [join(root, "scripts", "build.ts"), join(folder, "dist")]);
  await mkdir(join(folder, "bin"));
  await copyFile(join(root, "bin", "pgkit.js"), bin);
  await writeFile(join(folder, "package.json"), '{ "type": "module" }');
});

afterAll(() => rm(folder, { recursive: true, force: true }));

/** Starts the bundle with nothing of this process's environment but the PATH. */
function start(args: readonly string[]): { child: ChildProcess; ended: Promise<{ status: number; stderr: string }> } {
  const env = { PATH: process.env["PATH"], HOME: folder };
  const child = spawn(process.execPath, [bin, ...args], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
  let stderr = "";
  child.stderr?.on("data", (chunk) => (stderr += chunk));
  const ended = once(child, "close").then(([status]) => ({ status, stderr }));
  return { child, ended };
}

test("the bundle runs without node_modules, with its thread and the licences beside it", async () => {
  const files = ["THIRD-PARTY-LICENSES.txt", "file-writer.js", "pgkit.js"];
  expect((await readdir(join(folder, "dist"))).sort()).toEqual(files);
  const { child, ended } = start(["--version"]);
  let stdout = "";
  child.stdout?.on("data", (chunk) => (stdout += chunk));
  expect(await ended).toEqual({ status: 0, stderr: "" });
  expect(stdout).toBe(`${packageJson.version}\n`);
  const licences = await readFile(join(folder, "dist", "THIRD-PARTY-LICENSES.txt"), "utf8");
  expect(licences).toMatch(/^commander \S+ \(MIT\)$/m);
  expect(licences).not.toContain("(undefined)");
});

test("the exit status reaches the shell", async () => {
  const ended = await start(["schdule"]).ended;
  expect(ended).toMatchObject({ status: 2, stderr: expect.stringContaining("did you mean schedule?") });
});

test("the streamer, which begins again with settings for glibc, has its arguments, its streams and its status", async () => {
  const ended = await start(["wal", "stream", "--instance", "two words", "--repository", "nowhere://"]).ended;
  expect(ended).toMatchObject({ status: 2, stderr: expect.stringContaining("nowhere://") });
  expect(ended.stderr).not.toContain("xperimental");
});

test("nothing heavy is loaded before a command asks for it", async () => {
  const entry = "src/main.ts";
  const { metafile } = await build({
    ...{ absWorkingDir: root, entryPoints: [entry], bundle: true, write: false, metafile: true },
    ...{ platform: "node", format: "esm", external: ["pg-native"], logLevel: "silent" },
  });
  const reached = new Set([entry]);
  for (const path of reached) {
    for (const found of metafile.inputs[path]?.imports ?? []) {
      if (found.kind !== "dynamic-import" && found.external !== true) reached.add(found.path);
    }
  }
  const packages = [...reached].flatMap((path) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? []);
  expect(new Set(packages)).toEqual(new Set(["commander"]));
});

/** A server that takes connections and requests and never answers, with the moment of its first request. */
async function silentServer() {
  const requested = Promise.withResolvers<void>();
  const server = createServer(() => requested.resolve());
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { port, requested: requested.promise, close };
}

test.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)(
  "%s ends a run with 130 while a store keeps silent",
  async (signal) => {
    const { port, requested, close } = await silentServer();
    const config = join(folder, "silent.yaml");
    await writeFile(
      config,
      `repository: s3://bucket/prefix
storage: { endpoint: "http://127.0.0.1:${port}", accessKeyId: a, secretAccessKey: b }
instances: { a: { url: "postgresql://u@h/d", schedule: { logical: "0 2 * * *" } } }`,
    );
    const { child, ended } = start(["schedule", "--config", config]);
    await Promise.race([requested, ended]);
    child.kill(signal);
    expect(await ended).toEqual({ status: 130, stderr: `pgkit: stopped by ${signal}\n` });
    close();
  },
);

test("a reader that went away ends the output quietly", () => {
  const script = '{ "$1" "$2" completion bash; echo "status $?" >&2; } 2>&1 >&3 3>&- | cat';
  // File descriptor 3 is a pipe whose reader is gone before pgkit has started.
  const output = execFileSync("bash", ["-c", `exec 3> >(true); wait $!; ${script}`, "bash", process.execPath, bin], {
    encoding: "utf8",
    env: { PATH: process.env["PATH"], HOME: folder },
  });
  expect(output).toBe("status 0\n");
});
