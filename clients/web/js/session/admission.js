/** Requests a session, and tries again while the server is full. Independent of the page. */

const DEFAULT_S = 5;
const LONGEST_S = 60;

/** The message for a temporary failure; null for any other failure. */
export function reason(error) {
  if (error.code === "full") return "All places on this server are taken.";
  if (error.status === 503 || error.status === 429) return error.message;
  return null;
}

/** Call `ask`, and repeat it after temporary failures. `wait(why, atMs)` shows the reason; if it returns false, the result is null. */
export async function patiently(ask, wait) {
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      const why = reason(error);
      if (why === null) throw error;
      const pauseS = Math.min(Math.max(error.retryAfterS ?? DEFAULT_S, 1), LONGEST_S);
      if (!(await wait(why, performance.now() + pauseS * 1000))) return null;
    }
  }
}
