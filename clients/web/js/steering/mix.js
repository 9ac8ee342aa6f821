/**
 * Parses mixed prompts: `a forest 70% | a city 30%` → texts with weights. Pure.
 *
 * Parts without a percentage divide the rest equally.
 */

const FIGURE = /^(.*?)[\s:,]*(\d{1,3}(?:\.\d+)?)\s*%$/s;
const BAR = "|";

/** The parts of a line, [{text, weight}] with weights in percent; one part if there is no bar. Throws an Error for the user. */
export function parts(line) {
  if (!line.includes(BAR)) return [{ text: line.trim(), weight: 100 }];
  const found = line.split(BAR).map((part) => part.trim()).filter(Boolean).map((part) => {
    const [, text = part, figure] = FIGURE.exec(part) ?? [];
    return { text: text.trim(), weight: figure === undefined ? null : Number(figure) };
  });
  if (!found.length || found.some(({ text }) => !text)) throw new Error("One part has a share but no text. Write it like: a forest 70% | a city 30%");
  const zero = found.find(({ weight }) => weight === 0);
  if (zero) throw new Error(`“${zero.text}” has a share of 0 %. Leave it out or give it more.`);
  const open = found.filter(({ weight }) => weight === null);
  const left = 100 - found.reduce((sum, { weight }) => sum + (weight ?? 0), 0);
  if (open.length && left <= 0) throw new Error(`Nothing is left for “${open[0].text}”: the other shares come to 100 % or more.`);
  for (const part of open) part.weight = left / open.length;
  return found;
}

/** The fields of a prompt control for this line. Throws like `parts`. */
export function mixed(line) {
  const found = parts(line);
  if (found.length === 1) return { text: found[0].text };
  return { prompts: found.map(({ text, weight }) => ({ text, weight: Math.round(weight * 100) / 10_000 })) };
}

/** The share of each part in whole percent, for display. */
export function shares(found) {
  const sum = found.reduce((total, { weight }) => total + weight, 0);
  return found.map(({ text, weight }) => ({ text, percent: Math.round((100 * weight) / sum) }));
}
