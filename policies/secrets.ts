/** Rules about what must not stand in plain text. */
import { environment } from "./release";
import { type Report, rule } from "./rule";
import { podSpec, types } from "./types";
import type { Value } from "./value";

/** Names of what is kept secret, unless they end in what says where it is. */
const secretName = /(SECRET|TOKEN|PASSWORD|PASSWD|API_?KEY|ACCESS_KEY|PRIVATE_KEY|CREDENTIAL)/;
const placeName = /(_FILE|_PATH|_ARN|_URI|_URL|_ENDPOINT|_NAME)$/;

/** Values that are secrets whatever they are called. */
const secretValues: [RegExp, string][] = [
  [/\b(AKIA|ASIA)[A-Z0-9]{16}\b/, "an AWS access key"],
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----/, "a private key"],
  [/\beyJ[\w-]{10,}\.eyJ[\w-]{10,}\./, "a token (JWT)"],
  [/:\/\/[^/\s:@]+:[^/\s@]+@/, "a password in a URL"],
];

function known(value: string): string | undefined {
  return secretValues.find(([pattern]) => pattern.test(value))?.[1];
}

const remedy = "put it into a Secret and refer to it, or mount it as a file";

function look(env: Map<string, Value>, report: Report): void {
  for (const [name, value] of env) {
    report.part(() => {
      const text = value.text ?? "";
      const what = known(text);
      const named = secretName.test(name.toUpperCase()) && !placeName.test(name.toUpperCase());
      // A variable of another name, or a path, is no secret.
      const literal = text !== "" && !/^(\/|\$\()/.test(text) && !["true", "false"].includes(text);
      if (what) report.violation(`the variable ${name} holds ${what}`, remedy);
      else if (named && literal) report.violation(`the variable ${name} is given in plain text`, remedy);
    });
  }
}

export const secretRules = [
  rule({
    id: "no-plain-secrets",
    title: "No secret stands in plain text in environment variables or ConfigMaps.",
    why: "Everyone who may read a pod, a release or the stack's state would have it.",
    severity: "critical",
    level: "mandatory",
    standards: ["CKV_K8S_35", "AVD-KSV-0109"],
    resource: {
      types: [...types.release, ...types.job, ...types.cronJob, ...types.configMap],
      check(resource, report) {
        const { type, props } = resource;
        if ((types.configMap as readonly string[]).includes(type)) {
          for (const [key, value] of props.get("data").entries) {
            report.part(() => {
              const what = known(value.text ?? "");
              if (what) report.violation(`${key} holds ${what}`, remedy);
            });
          }
        } else if ((types.release as readonly string[]).includes(type)) {
          look(environment(props.get("values", "env")), report);
        } else {
          const pod = podSpec(resource);
          for (const container of [...pod.get("initContainers").list, ...pod.get("containers").list]) {
            report.part(() => look(environment(container.get("env")), report));
          }
        }
      },
    },
  }),
];
