/** JSON policy documents: which two of them mean the same. */

import { canonical, isObject, type Properties, type Value } from "../provider/values";
import { hasCode } from "./errors";

/** Keys whose values are texts and stay as they are; everywhere else a text and a list with that text are the same. */
const single = new Set(["Version", "Id", "Sid", "Effect"]);

/** A policy in its normal form: lists sorted, single texts as lists, an account's id as its root's ARN. */
export function normalizePolicy(document: Value): Value {
  if (!isObject(document)) return document;
  const { Statement, ...rest } = document;
  const statements = Statement === undefined ? [] : Array.isArray(Statement) ? Statement : [Statement];
  return { ...rest, Statement: sorted(statements.map(normalizeStatement)) };
}

function normalizeStatement(statement: Value): Value {
  if (!isObject(statement)) return statement;
  return Object.fromEntries(
    Object.entries(statement)
      .filter(([key, value]) => !(key === "Sid" && value === ""))
      .map(([key, value]) => {
        if (single.has(key)) return [key, value];
        if (key.endsWith("Principal")) return [key, normalizePrincipal(value)];
        return [key, normalizeMember(value)];
      }),
  );
}

function normalizePrincipal(principal: Value): Value {
  if (!isObject(principal)) return normalizeMember(principal);
  const { AWS, ...others } = principal;
  const account = (value: Value) =>
    typeof value === "string" && /^\d{12}$/.test(value) ? `arn:aws:iam::${value}:root` : value;
  const accounts: Properties =
    AWS === undefined ? {} : { AWS: normalizeMember(Array.isArray(AWS) ? AWS.map(account) : account(AWS)) };
  return { ...accounts, ...(normalizeMember(others) as Properties) };
}

function normalizeMember(value: Value): Value {
  if (isObject(value))
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, normalizeMember(member)]));
  return sorted((Array.isArray(value) ? value : [value]).map((member) => (isObject(member) ? member : String(member))));
}

const sorted = (values: Value[]) => [...values].sort((a, b) => (canonical(a) < canonical(b) ? -1 : 1));

/** A policy that names a principal made just before is refused until IAM has spread the news. */
export function principalNotSeen(error: unknown): boolean {
  const malformed = hasCode(error, ["MalformedPolicy", "MalformedPolicyDocument"]);
  return malformed && /invalid principal/i.test((error as Error).message);
}
