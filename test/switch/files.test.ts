import { chmod, chown, link, mkdir, readdir, readFile, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { secret } from "../../src/lib/secret.ts";
import { commandSwitcher } from "../../src/switch/command.ts";
import type { EndpointKeys } from "../../src/switch/endpoint-keys.ts";
import { envFileSwitcher } from "../../src/switch/env-file.ts";
import { withFolder } from "./support.ts";

const never = new AbortController().signal;
const from = { host: "old.databases", port: 5432, database: "litellm" };
const to = { host: "new.databases", port: 6432, database: "litellm" };
/** To another variable, as shells and Compose have it. */
const reference = ["$", "{DB_OTHER}"].join("");
const url = { url: "DATABASE_URL" };

const switcherOf = (path: string, keys: EndpointKeys = url) =>
  envFileSwitcher({ path, keys }, { database: "litellm", keep: secret });

describe("an env file", () => {
  test.each([
    ["DATABASE_URL=postgres://u:p@old.databases/litellm\n", "DATABASE_URL=postgres://u:p@new.databases:6432/litellm\n"],
    [
      'A=1\r\nexport DATABASE_URL="postgres://u:a%22b$@old.databases:5432/litellm"  # why\r\nB=2',
      'A=1\r\nexport DATABASE_URL="postgres://u:a%22b$@new.databases:6432/litellm"  # why\r\nB=2',
    ],
    [
      "#DATABASE_URL=x\n  DATABASE_URL = 'postgres://u:\"\\$@old.databases/litellm?a=b#c'\n\nDATABASE_URL_2=y",
      "#DATABASE_URL=x\n  DATABASE_URL = 'postgres://u:\"\\$@new.databases:6432/litellm?a=b#c'\n\nDATABASE_URL_2=y",
    ],
    [
      `DATABASE_URL=postgres://u:${reference}@old.databases/litellm # keep`,
      `DATABASE_URL=postgres://u:${reference}@new.databases:6432/litellm # keep`,
    ],
    [
      "DATABASE_URL=\"host=old.databases password='a b' dbname=litellm\"",
      "DATABASE_URL=\"host=new.databases password='a b' dbname=litellm port=6432\"",
    ],
  ])("keeps all but what is switched: %j", async (text, expected) => {
    await withFolder(async (folder) => {
      const path = join(folder, "app.env");
      await writeFile(path, text);
      expect(await switcherOf(path).current(never)).toMatchObject({
        host: from.host,
        port: from.port,
        database: from.database,
      });
      await switcherOf(path).point(from, to, never);
      expect(await readFile(path, "utf8")).toBe(expected);
      await switcherOf(path).point(to, from, never);
      expect(await switcherOf(path).current(never)).toMatchObject(from);
    });
  });

  test("separate keys are changed where they differ, quoted so that they can be read", async () => {
    await withFolder(async (folder) => {
      const path = join(folder, "app.env");
      await writeFile(path, "DB_PORT=5432\nDB_HOST='old.databases'\nDB_PASSWORD=abc\nDB_USER=\"u\"\n");
      const keys = { host: "DB_HOST", port: "DB_PORT", user: "DB_USER", password: "DB_PASSWORD" };
      const switcher = switcherOf(path, keys);
      await switcher.point(from, { ...to, password: secret("it's $x #1"), user: "u" }, never);
      expect(await readFile(path, "utf8")).toBe(
        'DB_PORT=6432\nDB_HOST=\'new.databases\'\nDB_PASSWORD="it\'s \\$x #1"\nDB_USER="u"\n',
      );
      expect((await switcher.current(never)).password?.reveal()).toBe("it's $x #1");
    });
  });

  test("mode and owner stay, a link stays a link, and what a killed run left goes", async () => {
    await withFolder(async (folder) => {
      const [path, way] = [join(folder, "real.env"), join(folder, "link.env")];
      const text = "DATABASE_URL=postgres://u:p@old.databases/litellm\n";
      await writeFile(path, text);
      await chmod(path, 0o644);
      if (process.getuid?.() === 0) await chown(path, 1234, 2345);
      await symlink("real.env", way);
      await link(path, join(folder, "second.env"));
      const was = await stat(path);
      const dead = join(folder, ".real.env.pgkit-000000000000-1-1");
      await writeFile(dead, "of another machine, which may be at it");
      await switcherOf(way).point(from, to, never);
      const is = await stat(path);
      expect([is.mode, is.uid, is.gid]).toEqual([was.mode, was.uid, was.gid]);
      expect(await readFile(way, "utf8")).toContain("new.databases:6432");
      expect(await readFile(join(folder, "second.env"), "utf8"), "replaced at once, not written over").toBe(text);
      expect((await readdir(folder)).sort()).toEqual([
        ".real.env.pgkit-000000000000-1-1",
        "link.env",
        "real.env",
        "second.env",
      ]);
    });
  });

  test("out of a ConfigMap it is refused", async () => {
    await withFolder(async (folder) => {
      await mkdir(join(folder, "..2026_11_29_18_00_00.123"));
      await writeFile(
        join(folder, "..2026_11_29_18_00_00.123", "app.env"),
        "DATABASE_URL=postgres://u@old.databases/litellm",
      );
      await symlink("..2026_11_29_18_00_00.123", join(folder, "..data"));
      await symlink("..data/app.env", join(folder, "app.env"));
      await expect(switcherOf(join(folder, "app.env")).point(from, to, never)).rejects.toMatchObject({
        code: "switch-failed",
        message: expect.stringContaining("ConfigMap or Secret"),
        hint: expect.stringContaining("switch.secret"),
      });
    });
  });

  test.each([
    ["OTHER=s3cret\n", url, /no key DATABASE_URL/],
    ["DATABASE_URL=s3cret\n", url, /DATABASE_URL of the env file .* no connection string/],
    ['DATABASE_URL="postgres://u:s3cret@old\n"', url, /quote that does not end/],
    ["DATABASE_URL=a\nDATABASE_URL=postgres://u:s3cret@old/x\n", url, /stands there twice/],
    [`DATABASE_URL=postgres://u:s3cret@${reference}/litellm\n`, url, /refers to other variables/],
    ["DB_HOST=old.databases\n", { host: "DB_HOST" }, /port 6432, and no key/],
  ])("%j with %j is refused, and left as it was", async (text, keys, message) => {
    await withFolder(async (folder) => {
      const path = join(folder, "app.env");
      await writeFile(path, text);
      const failure = await switcherOf(path, keys)
        .point(from, to, never)
        .catch((error: unknown) => error);
      expect(failure).toMatchObject({
        code: "config",
        message: expect.stringMatching(message),
        hint: expect.stringMatching(/\w/),
      });
      expect(`${failure} ${JSON.stringify(failure)}`).not.toContain("s3cret");
      expect(await readFile(path, "utf8")).toBe(text);
      expect(await readdir(folder)).toEqual(["app.env"]);
    });
  });
});

describe("a switch command", () => {
  async function scripted<T>(body: string, use: (command: string[], folder: string) => Promise<T>): Promise<T> {
    return await withFolder(async (folder) => {
      const path = join(folder, "switch-it");
      await writeFile(path, `#!/bin/sh\n${body}\n`);
      await chmod(path, 0o755);
      return await use([path, "first", folder], folder);
    });
  }

  test("is given from and to on stdin, a password there too, and nothing of them in its arguments", async () => {
    await scripted(
      'cat > "$2/stdin"; tr "\\0" "\\n" < /proc/$$/cmdline > "$2/arguments"; echo ignored',
      async (command, folder) => {
        const switcher = commandSwitcher(command, { assumed: from });
        await switcher.point({ ...from, user: "u" }, { ...to, password: secret("s3cret") }, never);
        expect(JSON.parse(await readFile(join(folder, "stdin"), "utf8"))).toEqual({
          action: "point",
          from: { ...from, user: "u" },
          to: { ...to, password: "s3cret" },
        });
        expect(await readFile(join(folder, "arguments"), "utf8")).not.toMatch(/s3cret|databases/);
        expect(await switcher.current(never)).toEqual(to);
      },
    );
  });

  test.each([
    [
      "cat >/dev/null; echo working >&2; echo 'no such app: litellm' >&2; exit 7",
      "switch-failed",
      /switch-it failed \(exit status 7\): no such app: litellm$/,
    ],
    ["exit 1", "switch-failed", /exit status 1\): it said nothing on stderr/],
    ["kill -9 $$", "switch-failed", /killed by SIGKILL/],
    [
      "echo third >&2; exit 3",
      "switch-conflict",
      /neither at old.databases:5432\/litellm nor at new.databases:6432\/litellm: third/,
    ],
    ["sleep 60 & sleep 60", "switch-failed", /not done within 0.5 s/],
  ])("that ends by %j says so", async (body, code, message) => {
    await scripted(body, async (command) => {
      const switcher = commandSwitcher(command, { assumed: from, timeoutMs: 500 });
      const failure = await switcher
        .point(from, { ...to, password: secret("s3cret") }, never)
        .catch((error: unknown) => error);
      expect(failure).toMatchObject({ code, message: expect.stringMatching(message) });
      expect(`${failure} ${JSON.stringify(failure)}`).not.toContain("s3cret");
      expect(await switcher.current(never), "as far as is known").toEqual(from);
    });
  });

  test("that cannot be started says why", async () => {
    await scripted("exit 0", async ([path = ""]) => {
      await expect(commandSwitcher([`${path}-gone`], { assumed: from }).point(from, to, never)).rejects.toMatchObject({
        code: "switch-failed",
        message: expect.stringContaining("cannot be started (ENOENT)"),
      });
      await chmod(path, 0o644);
      await expect(commandSwitcher([path], { assumed: from }).point(from, to, never)).rejects.toMatchObject({
        code: "switch-denied",
      });
    });
  });

  test("ends with the move that is stopped", async () => {
    await scripted("cat >/dev/null; exec sleep 600", async (command) => {
      const stop = new AbortController();
      const pointed = commandSwitcher(command, { assumed: from }).point(from, to, stop.signal);
      setTimeout(() => stop.abort(new Error("stopped")), 200);
      await expect(pointed).rejects.toThrow("stopped");
    });
  });
});
