// Which shortcut a key means, whatever the layout and Caps Lock are. Pure.

const BY_PLACE = { Slash: "/", BracketLeft: "[" };

// A key that types a Latin character means it; one of another script means what a US keyboard has in its place.
export function shortcut({ key, code }, known) {
  if (Object.hasOwn(known, key)) return key;
  const small = key.toLowerCase();
  if (Object.hasOwn(known, small)) return small;
  if (/^[\x20-\x7e]/.test(key)) return null;
  const placed = /^Key([A-Z])$/.exec(code)?.[1].toLowerCase() ?? BY_PLACE[code];
  return placed !== undefined && Object.hasOwn(known, placed) ? placed : null;
}
