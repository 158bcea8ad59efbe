import { expect, test } from "vitest";
import { clustersOfFile } from "./clusters.ts";
import { applicationUrl, makeApplication, makeEmptyTarget, testMove } from "./support.ts";
import { startWriter } from "./writer.ts";

const clusters = clustersOfFile();

test("the writer's acknowledged numbers are those in its table, in order", async () => {
  await makeApplication(clusters.source);
  await makeEmptyTarget(clusters.target);
  const writer = startWriter({ url: () => applicationUrl(clusters.source, "litellm") });
  await writer.more(20);
  await writer.stop();
  const { context } = await testMove(clusters);
  const rows = await context.session("source", (session) =>
    session.query<{ n: string }>("SELECT n FROM public.ledger ORDER BY id"),
  );
  expect(rows.map(({ n }) => Number(n))).toEqual(writer.acknowledged);
  expect(writer.errors).toEqual([]);
});
