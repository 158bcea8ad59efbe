import { get } from "node:http";
import { text } from "node:stream/consumers";

/** Asks the keeper of this run's servers for one of them, which it starts when this is the first to ask. */
export async function serverOfThisRun<T>(path: "/s3/old" | "/s3/new" | "/s3/newest" | "/azurite"): Promise<T> {
  const { PGKIT_TEST_SERVERS: keeper } = process.env;
  if (!keeper) throw new Error("no keeper of servers runs: PGKIT_TEST_SERVERS is set by vitest's global setup");
  const body = await new Promise<string>((resolve, reject) => {
    get(`${keeper}${path}`, (response) => {
      text(response).then((said) => {
        if (response.statusCode === 200) resolve(said);
        else reject(new Error(said));
      }, reject);
    }).on("error", reject);
  });
  return JSON.parse(body);
}
