/**
 * The Pulumi schema that follows from a provider's tables: enough for `pulumi import` to write code.
 * It has no descriptions, no functions, and no provider settings, so no SDK can be generated from it.
 */
import type { AnyFields, Field } from "./fields";
import type { ProviderDefinition } from "./resource";

type Schema = { [key: string]: unknown };

/** The schema as JSON. */
export function schemaOf<Context>({ name, version, resources }: ProviderDefinition<Context>): string {
  const types: Schema = {};
  const properties = (fields: AnyFields, token: string) =>
    Object.fromEntries(
      Object.entries(fields)
        .filter(([, { kind }]) => kind !== "refused")
        .map(([key, field]) => [
          key,
          { ...typeOf(field, `${token}${capital(key)}`), ...(field.secret && { secret: true }) },
        ]),
    );
  const required = (fields: AnyFields) => Object.keys(fields).filter((key) => fields[key]?.required);
  const typeOf = (field: Field<unknown>, token: string): Schema => {
    switch (field.kind) {
      case "list":
      case "set":
        return { type: "array", items: typeOf(field.element!, token) };
      case "map":
        return { type: "object", additionalProperties: typeOf(field.element!, token) };
      case "object":
        types[token] = {
          type: "object",
          properties: properties(field.fields!, token),
          required: required(field.fields!),
        };
        return { $ref: `#/types/${token}` };
      case "number":
      case "boolean":
        return { type: field.kind };
      default:
        return { type: "string" };
    }
  };
  const described = resources.map(({ token, inputs, outputs }) => [
    token,
    {
      inputProperties: properties(inputs, token),
      requiredInputs: required(inputs),
      properties: properties({ ...inputs, ...outputs }, token),
    },
  ]);
  return JSON.stringify({ name, version, types, resources: Object.fromEntries(described) });
}

const capital = (text: string) => text.charAt(0).toUpperCase() + text.slice(1);
