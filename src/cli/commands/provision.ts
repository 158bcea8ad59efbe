import { PgkitError } from "../../lib/errors.ts";
import type { Command, CommandContext } from "../command.ts";
import { applicationOf } from "../move.ts";

export const provisionCommand: Command = {
  name: "provision",
  summary: "Render manifests of a dedicated instance for an application, sized from its database's figures",
  arguments: [{ name: "APP", required: true, doc: "the application or its database" }],
  options: ["render", "format"],
  examples: [
    {
      line: "pgkit provision litellm --render > litellm-db.yaml",
      does: "a Service and a StatefulSet, to look at and keep in Git",
    },
    { line: "pgkit provision litellm --render --format argocd", does: "an ArgoCD Application with the Bitnami chart" },
  ],
  run: async (context, args) => {
    const name = args.one("APP") ?? "";
    const { format, render } = args.flags;
    if (!render) {
      throw new PgkitError("usage", "provision only renders: nothing is applied by it", {
        hint: `add --render, look at what it writes, then: pgkit move ${name} --to dedicated --provision FILE`,
      });
    }
    const { provisionNotes, provisionSizes, secretLine } = await import("../../manifests/provision.ts");
    const { statefulSetInstance } = await import("../../manifests/provision-statefulset.ts");
    const { argocdInstance } = await import("../../manifests/provision-argocd.ts");
    const { yamlStream } = await import("../manifests-text.ts");
    const request = await provisionRequest(context, name);
    const manifests = (format === "argocd" ? argocdInstance : statefulSetInstance)(request);
    const notes = provisionNotes(request, format);
    const { figures, secret } = request;
    const head = [
      `An instance for ${request.database}: ${Math.ceil(figures.sizeBytes / 1024 ** 2)} MiB and ${figures.connections} sessions on PostgreSQL ${figures.major}.`,
      `The superuser's password is the key ${secret.key} of the Secret ${request.namespace}/${secret.name}. Make it first:`,
      `  ${secretLine(request)}`,
      ...notes.map((note) => `Before you apply it: ${note}.`),
    ];
    const text = `${head.map((line) => `# ${line}\n`).join("")}${await yamlStream(manifests)}`;
    const sizes = provisionSizes(figures);
    const list = { apiVersion: "v1", kind: "List", items: manifests };
    context.out.result({ json: { ...list, figures, sizes, notes, secret: secretLine(request) }, text });
    return 0;
  },
};

/** Where it is to be, as the configuration names the application's own instance; its figures from where it lives. */
async function provisionRequest(context: CommandContext, name: string) {
  const { databaseFacts } = await import("../../postgres/database-facts.ts");
  const { serverFacts } = await import("../../postgres/server-facts.ts");
  const { withSession } = await import("../../postgres/session.ts");
  const application = applicationOf(context, name);
  const database = application?.database ?? name;
  const home = context.instance(context.instanceName ?? application?.instance);
  const connection = await context.connection(home);
  const figures = await withSession(connection, { database, signal: context.signal }, async (session) => {
    const { sizeBytes, extensions, locale } = await databaseFacts(session);
    const { major } = await serverFacts(session);
    const [row] = await session.query<{ connections: number }>(
      `SELECT count(*)::int AS connections FROM pg_stat_activity
       WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()`,
    );
    if (row === undefined) throw new Error("a count gave no row");
    const names = extensions.map((extension) => extension.name);
    return { major, sizeBytes, connections: row.connections, extensions: names, collate: locale.collate };
  });
  const app = application?.name ?? name;
  return {
    application: app,
    database,
    storageClass: undefined,
    figures,
    ...placeOf(context, app, application?.dedicated),
  };
}

/** `litellm-db.litellm.svc` of the instance's URL says name and namespace; its `passwordFrom.secret` says the Secret. */
function placeOf({ config }: CommandContext, application: string, dedicated: string | undefined) {
  const instance = dedicated === undefined ? undefined : config.instances.get(dedicated);
  const plain = application
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, "-")
    .replaceAll(/^-+|-+$/g, "")
    .slice(0, 40);
  const host = /^([a-z][a-z0-9-]*)\.([a-z0-9-]+)(?:\.svc(?:\.[a-z.]+)?)?$/.exec(hostOf(instance?.url) ?? "");
  const from = instance?.passwordFrom;
  const secret = from?.type === "secret" ? from.secret : undefined;
  const name = host?.[1] ?? `${plain}-db`;
  return {
    name,
    namespace: secret?.namespace ?? host?.[2] ?? plain,
    secret: { name: secret?.name ?? name, key: secret?.key ?? "postgres-password" },
  };
}

function hostOf(url: string | undefined): string | undefined {
  return /^postgres(?:ql)?:\/\/(?:[^@/?]*@)?([^:/?,]+)/.exec(url ?? "")?.[1];
}
