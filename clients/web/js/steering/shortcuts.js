// Maps keys to shortcuts, independent of keyboard layout and Caps Lock. Pure.

const BY_PLACE = { Slash: "/", BracketLeft: "[" };

// A key that types a Latin character stands for it; a key of another script stands for the US key in its place.
export function shortcut({ key, code }, known) {
  if (Object.hasOwn(known, key)) return key;
  const small = key.toLowerCase();
  if (Object.hasOwn(known, small)) return small;
  if (/^[\x20-\x7e]/.test(key)) return null;
  const placed = /^Key([A-Z])$/.exec(code)?.[1].toLowerCase() ?? BY_PLACE[code];
  return placed !== undefined && Object.hasOwn(known, placed) ? placed : null;
}
