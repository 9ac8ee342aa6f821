/** Helpers that create elements. No HTML strings are ever parsed. */

const SVG = "http://www.w3.org/2000/svg";

export const svg = (tag, attributes = {}) => {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
};

export const element = (tag, className = "", text = "") => Object.assign(document.createElement(tag), { className, textContent: text });

/** One of the icons drawn at the top of index.html. */
export function icon(name) {
  const node = svg("svg");
  node.append(svg("use", { href: `#${name}` }));
  return node;
}
