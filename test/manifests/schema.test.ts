import { expect, test } from "vitest";
import { schemaProblems } from "./schema.ts";

const cronJob = {
  apiVersion: "batch/v1",
  kind: "CronJob",
  metadata: { name: "a", labels: { any: "thing" } },
  spec: {
    schedule: "* * * * *",
    jobTemplate: { spec: { template: { spec: { containers: [{ name: "a", image: "b", args: ["c"] }] } } } },
  },
};

test.each([
  ["nothing in what is right", cronJob, []],
  [
    "a field of the wrong type",
    { ...cronJob, spec: { ...cronJob.spec, startingDeadlineSeconds: "60" } },
    [expect.stringContaining("/spec/startingDeadlineSeconds type")],
  ],
  [
    "a misspelled field",
    { ...cronJob, spec: { ...cronJob.spec, concurencyPolicy: "Forbid" } },
    ["/spec/concurencyPolicy is no field of it"],
  ],
  ["a missing field", { ...cronJob, spec: { schedule: "* * * * *" } }, [expect.stringContaining("jobTemplate")]],
  [
    "a word that is none of those",
    { ...cronJob, spec: { ...cronJob.spec, concurrencyPolicy: "Never" } },
    [expect.stringContaining("/spec/concurrencyPolicy enum")],
  ],
])("the schemas find %s", async (_, manifest, problems) => {
  expect(await schemaProblems(manifest)).toEqual(problems);
});
