import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { completionScript } from "../../src/cli/completion-script.ts";
import { run, testCommand } from "./run.ts";

const commands = [
  testCommand(async () => 0, { name: "backup logical", options: ["dryRun"] }),
  testCommand(async () => 0, { name: "backup base" }),
  testCommand(async () => 0, {
    name: "completion",
    arguments: [{ name: "SHELL", doc: "the shell", choices: ["bash", "zsh"] }],
  }),
];

/** What bash offers for the last word of a line. */
function offered(...words: string[]): string[] {
  const script = `${completionScript("bash", commands)}
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_pgkit
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const output = execFileSync("bash", ["-uc", script, "bash", "pgkit", ...words], { encoding: "utf8" });
  return output.split("\n").filter((line) => line !== "");
}

test("bash completes commands, subcommands, flags and fixed words", () => {
  expect(offered("b")).toEqual(["backup"]);
  expect(offered("backup", "")).toEqual(["logical", "base", "--help"]);
  expect(offered("backup", "logical", "--d")).toEqual(["--dry-run"]);
  expect(offered("backup", "base", "--d")).toEqual([]);
  expect(offered("--config", "x", "completion", "z")).toEqual(["zsh"]);
  expect(offered("backup", "logical", "--progress", "p")).toEqual(["plain"]);
});

test("the scripts of zsh and fish name every command and flag", () => {
  const zsh = completionScript("zsh", commands);
  expect(zsh).toMatch(/^#compdef pgkit\n/);
  const fish = completionScript("fish", commands);
  expect(fish).toContain("-a logical");
  expect(fish).toContain("-s n -l dry-run");
  expect(fish).toContain("-l progress -x -a 'auto bar plain json events'");
});

test("pgkit completion prints the script of the shell", async () => {
  const ran = await run(["completion", "bash"]);
  expect(ran).toMatchObject({ status: 0, stderr: "" });
  expect(ran.stdout).toContain("complete -o default -F _pgkit pgkit");
});
