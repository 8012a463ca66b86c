/** The operator's and the controllers' access keys: fixed, so that every process of the sandbox knows them. They open nothing but the sandbox. */

/** IAM user, with full access, that the operator and the sandbox's own controllers are. */
export const adminUser = "sandbox";

/** The access keys of {@link adminUser}. */
export const adminCredentials = {
  accessKeyId: "AKIASANDBOXOPERATOR0",
  secretAccessKey: "sandbox/only/opens/this/sandbox/00000000",
} as const;
