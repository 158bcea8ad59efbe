import { expect, test } from "vitest";
import { run } from "../cli/run.ts";

const yaml = "repository: /nowhere/at/all\ninstances: { shared: { url: 'postgresql://u@127.0.0.1:1/d' } }\n";

test.each([
  [["restore", "--rollback"], "--rollback goes with --in-kubernetes INSTANCE"],
  [["restore", "litellm", "--in-kubernetes", "--to-new-pvc", "x"], "--to-new-pvc goes with --in-kubernetes INSTANCE"],
  [["restore", "--in-kubernetes", "shared", "--replace"], "--replace does not go with"],
  [["restore", "--in-kubernetes", "shared", "--detach"], "--detach does not go with"],
  [["restore", "--in-kubernetes", "shared", "--rollback", "--finish"], "exclude each other"],
  [["restore", "litellm", "--set-aside", "x"], "--set-aside goes with --data-dir"],
  [["restore", "--put-back", "x"], "goes with --data-dir"],
  [["restore", "--data-dir", "/nowhere/data", "--put-back", "../x"], "is no name of a directory"],
])("what cannot be meant is refused: pgkit %j", async (args, message) => {
  const ran = await run(args, { files: { "pgkit.yaml": yaml } });
  expect(ran).toMatchObject({ status: 2, stdout: "", stderr: expect.stringContaining(message) });
});
