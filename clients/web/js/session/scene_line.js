/** One line of what the scene shows: its values, which of them the seed chose, and landmarks that prompts named. */

const ORDER = ["hero", "colour", "place", "time", "weather"];

function landmark({ kind, colour, px, met }) {
  if (met) return `${colour} ${kind} (met)`;
  return `${colour} ${kind} ${Math.abs(px)} px to the ${px < 0 ? "left" : "right"}`;
}

export function sceneLine({ attributes = {}, chosen = [], landmarks = [] } = {}) {
  const rank = (name) => (ORDER.includes(name) ? ORDER.indexOf(name) : ORDER.length);
  const names = Object.keys(attributes).sort((a, b) => rank(a) - rank(b));
  const values = names.map((name) => `${name}: ${attributes[name]}${chosen.includes(name) ? " (chosen)" : ""}`);
  return [...values, ...landmarks.map(landmark)].join(" · ");
}
