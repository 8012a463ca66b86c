/** Under whose name this program applies Kubernetes objects. */

/**
 * Annotation of every object that the program applies. Without it Pulumi picks another field manager for each creation, so
 * an object whose creation was interrupted and made again would have two of them, and later changes would conflict with
 * the first one's.
 */
export const appliedByStack = { "pulumi.com/patchFieldManager": "restate-stack" };
