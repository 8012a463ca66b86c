/** In which order the two stacks are brought up until neither has anything left to learn from the other. Pure. */

/** What is known of one stack while the stacks are being brought up. */
export interface StackProgress {
  name: string;
  /** What the peer builds from, as text; undefined before the first `up` and while there is nothing. */
  exported: string | undefined;
  /** The peer's `exported` as it was when this stack was last brought up; undefined before that. */
  sawPeer: { exported: string | undefined } | undefined;
}

/**
 * The stack to bring up next: one that was not brought up yet, home first, else one whose peer has since exported
 * something else. Undefined once both are settled. Two stacks settle after home, peer, home, or sooner.
 */
export function nextStack<T extends StackProgress>(stacks: readonly [home: T, peer: T]): T | undefined {
  return stacks.find(({ sawPeer }, i) => !sawPeer || sawPeer.exported !== stacks[1 - i]!.exported);
}

/** More runs than two stacks can need: if it takes this many, they do not settle and something is wrong. */
export const mostRuns = 6;
