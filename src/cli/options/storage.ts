import { option } from "./option.ts";
import * as value from "./values.ts";

/** What the URL of a repository cannot say. `at` is empty for the top of the file. */
export function storageOptions<const At extends "" | "repositories.[].">(at: At) {
  const named = (key: string, env: string) => ({
    key: `${at}storage.${key}`,
    ...(at === "" ? { env: `PGKIT_STORAGE_${env}` } : {}),
  });
  return {
    endpoint: option(value.httpUrl, {
      ...named("endpoint", "ENDPOINT"),
      defaultDoc: "that of the cloud",
      doc: "where the store answers, for other stores than the cloud's own",
    }),
    region: option(value.text, { ...named("region", "REGION"), doc: "S3: region" }),
    pathStyle: option(value.yesOrNo, {
      ...named("pathStyle", "PATH_STYLE"),
      doc: "S3: the bucket stands in the path, not in the host name",
    }),
    caFile: option(value.path, {
      ...named("caFile", "CA_FILE"),
      doc: "file with the certificate authority that signed the store's certificate",
    }),
  };
}
