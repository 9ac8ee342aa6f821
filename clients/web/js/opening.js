/** Asks for a session, and while the server has no place asks again when it says so. Knows no page. */

const USUAL_S = 5;
const LONGEST_S = 60;

/** Why this failure may pass with time, in words; null if it will not. */
export function reason(error) {
  if (error.code === "full") return "All places on this server are taken.";
  if (error.status === 503 || error.status === 429) return error.message;
  return null;
}

/** `wait(why, atMs)` shows the reason and tells whether to go on. The result of `ask`, or null where it was given up. */
export async function patiently(ask, wait) {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      const why = reason(error);
      if (why === null) throw error;
      const pauseS = Math.min(Math.max(error.retryAfterS ?? USUAL_S, 1), LONGEST_S);
      if (!(await wait(why, performance.now() + pauseS * 1000))) return null;
    }
  }
}
