import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { commands } from "../../src/cli/commands.ts";
import { allOptions, optionTable } from "../../src/cli/options/table.ts";
import { referenceText } from "../../src/cli/reference.ts";

test("docs/reference.md is what `npm run docs` writes", () => {
  const written = readFileSync(join(import.meta.dirname, "..", "..", "docs", "reference.md"), "utf8");
  expect(written, "run npm run docs").toBe(referenceText(commands));
});

test("no key, flag or variable is given twice", () => {
  for (const part of ["key", "flag", "env"] as const) {
    const given = allOptions.flatMap((option) => option[part] ?? []);
    expect(given).toEqual([...new Set(given)]);
  }
});

test("every option says what it is, and has a default, or says what happens without, or is needed", () => {
  for (const { rows } of optionTable) {
    for (const { doc, type } of rows) {
      expect(doc).toMatch(/^[^.].*[^.]$/);
      expect(type.allowed).not.toBe("");
    }
  }
});

test("every command has examples that start with its own name", () => {
  for (const { name, examples } of commands) {
    expect(examples.length).toBeGreaterThan(0);
    for (const { line } of examples) expect(line).toContain(`pgkit ${name}`);
  }
});
