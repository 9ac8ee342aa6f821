/**
 * The words of the built-in world, and how to build sentences from them and read them back.
 * Users may type any sentence; chips and "surprise me" use only these.
 */

const an = (word) => (/^[aeiou]/.test(word) ? `an ${word}` : `a ${word}`);

/** Field → word → its wording in a sentence. */
export const WORDS = {
  colour: Object.fromEntries(["red", "orange", "yellow", "green", "blue", "purple", "white", "black"].map((c) => [c, c])),
  hero: Object.fromEntries(["ball", "cube", "fox", "robot", "bird", "balloon"].map((h) => [h, h])),
  move: { "goes left": "left", "goes right": "right", jumps: "jumps", waits: "" },
  place: {
    meadow: "in a meadow", forest: "through the forest", desert: "through the dunes", snowfield: "on a snowfield",
    beach: "along the beach", city: "through the city", volcano: "past the volcanoes", moon: "on the moon",
  },
  time: { dawn: "at dawn", noon: "at noon", dusk: "at dusk", night: "at night" },
  weather: { clear: "under a clear sky", rain: "in the rain", snow: "in falling snow", fog: "in thick fog" },
};

/** The verbs for each hero: how it moves and how it stands. */
const MANNERS = {
  ball: ["rolls", "lies still"], cube: ["walks", "stands still"], fox: ["trots", "stands still"],
  robot: ["walks", "stands still"], bird: ["flies", "hovers in place"], balloon: ["floats", "hovers in place"],
  figure: ["walks", "stands still"],
};

export const TITLES = { place: "Place", time: "Time", weather: "Weather", hero: "Hero", colour: "Colour", move: "Action" };

const PATTERNS = {
  place: {
    meadow: /\b(meadows?|grass\w*|fields? of grass|pasture)\b/, forest: /\b(forests?|woods?|woodland)\b/, desert: /\b(deserts?|dunes?)\b/,
    snowfield: /\b(snow ?fields?|tundra|snowy (plain|land)\w*)\b/, beach: /\b(beach\w*|shore|seaside|coast)\b/,
    city: /\b(city|cities|town|streets?|skyline)\b/, volcano: /\b(volcano\w*|volcanic|lava)\b/, moon: /\b(moon|lunar)\b/,
  },
  time: {
    dawn: /\b(dawn|sunrise|daybreak|early morning)\b/, noon: /\b(noon|midday|daylight|day)\b/,
    dusk: /\b(dusk|sunset|evening|twilight)\b/, night: /\b(night\w*|midnight)\b/,
  },
  weather: {
    clear: /\b(clear|cloudless|sunny)\b/, rain: /\b(rain\w*|downpour|drizzle)\b/, snow: /\b(snow(s|ing|fall|y|flakes)?|blizzard)\b/, fog: /\b(fog\w*|mist\w*|haze)\b/,
  },
  hero: { balloon: /\bballoon/, ball: /\b(ball|sphere)/, cube: /\b(cube|box|block)/, fox: /\bfox/, robot: /\b(ro)?bot|\b(andr|dr)oid/, bird: /\b(song)?bird/ },
  move: {
    "goes left": /\bleft(wards)?\b/, "goes right": /\bright(wards)?\b/, jumps: /\b(jump|hop|leap|bounc|spring)\w*/, waits: /\b(stand|stay|rest|wait|paus|hover)\w*|\bstill\b/,
  },
};

/** The attributes that a sentence names: {place: "forest", …}. */
export function read(sentence) {
  const text = sentence.toLowerCase();
  const scene = {};
  for (const [field, patterns] of Object.entries(PATTERNS)) {
    for (const [word, pattern] of Object.entries(patterns)) {
      if (pattern.test(text)) {
        scene[field] = word;
        break;
      }
    }
  }
  const colour = text.match(/\b(red|orange|yellow|green|blue|purple|white|black)\b/);
  if (colour) scene.colour = colour[1];
  return scene;
}

/** A sentence that names these attributes, worded like the built-in model's training captions. */
export function say({ place, time, weather, hero, colour, move }) {
  const somebody = hero ?? (colour || move ? "figure" : null);
  const who = somebody && an([colour, somebody].filter(Boolean).join(" "));
  return [who, doing(somebody, move), WORDS.place[place], WORDS.time[time], WORDS.weather[weather]].filter(Boolean).join(" ");
}

function doing(hero, move) {
  if (!hero || !move) return "";
  const [go, wait] = MANNERS[hero];
  if (move === "waits") return wait;
  return move === "jumps" ? "jumps" : `${go} ${WORDS.move[move]}`;
}

const pick = (list, random) => list[Math.floor(random() * list.length)];

/** A random scene without the oddest combinations. */
export function surprise(random = Math.random) {
  const place = pick(Object.keys(WORDS.place), random);
  const skies = { moon: ["clear"], desert: ["clear", "fog"], volcano: ["clear", "fog"], snowfield: ["clear", "snow", "snow", "fog"], beach: ["clear", "rain", "fog"] };
  return {
    place,
    time: pick(Object.keys(WORDS.time), random),
    weather: pick(skies[place] ?? ["clear", "clear", "rain", "fog", "snow"], random),
    hero: pick(Object.keys(WORDS.hero), random),
    colour: pick(Object.keys(WORDS.colour), random),
    move: pick(["goes left", "goes right", "goes right", "waits"], random),
  };
}

/** A few suggestions, each of which changes one attribute: [{field, word, label, scene}]. */
export function suggestions(scene, random = Math.random) {
  const other = (field) => pick(Object.keys(WORDS[field]).filter((word) => word !== scene[field]), random);
  const fields = ["time", "place", "weather", "hero", "colour"];
  return fields.map((field) => {
    const word = other(field);
    const next = { ...scene, [field]: word };
    const label = { hero: () => an(word), colour: () => `make it ${word}` }[field]?.() ?? WORDS[field][word];
    return { field, word, label, scene: next };
  });
}
