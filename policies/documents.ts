/** Reading IAM and bucket policy documents. */
import type { Value } from "./value";

/** One statement, with single values as lists. */
export interface Statement {
  effect: string | undefined;
  actions: string[];
  /** Whether it says what it is not about (`NotAction`, `NotResource`, `NotPrincipal`): then it is about all the rest. */
  inverted: boolean;
  resources: string[];
  /** Kind of principal (`AWS`, `Service`, `Federated`, or `*` for anyone) and who. */
  principals: { kind: string; who: string[] }[];
  conditions: { operator: string; key: string; values: string[] }[];
}

/** The statements of a policy document, which may be JSON text. What cannot be read as one has none. */
export function statements(document: Value): Statement[] {
  return document.parsed.get("Statement").list.map((one) => {
    const principal = one.get("Principal");
    return {
      effect: one.get("Effect").text,
      actions: one.get("Action").texts,
      inverted: ["NotAction", "NotResource", "NotPrincipal"].some((key) => !one.get(key).missing),
      resources: one.get("Resource").texts,
      principals:
        principal.text === undefined
          ? principal.entries.map(([kind, who]) => ({ kind, who: who.texts }))
          : [{ kind: "*", who: [principal.text] }],
      conditions: one
        .get("Condition")
        .entries.flatMap(([operator, tests]) =>
          tests.entries.map(([key, values]) => ({ operator, key, values: values.texts })),
        ),
    };
  });
}

/** The values that a statement's condition allows for a key with an operator; none if it has no such condition. */
export function conditionValues(statement: Statement, operator: string, key: string): string[] {
  return statement.conditions
    .filter((one) => one.operator === operator && one.key.toLowerCase() === key.toLowerCase())
    .flatMap((one) => one.values);
}

/** The bucket that an S3 ARN is about, e.g. `a` of `arn:aws:s3:::a/*`. */
export function bucketOfArn(arn: string): string | undefined {
  return /^arn:aws[a-z-]*:s3:::([^/]+)(\/.*)?$/.exec(arn)?.[1];
}

/** The account that an ARN or a bare account id names. */
export function accountOf(principal: string): string | undefined {
  return /^(?:arn:aws[a-z-]*:(?:iam|sts)::)?(\d{12})(?::|$)/.exec(principal)?.[1];
}
