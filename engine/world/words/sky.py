"""The names of times of day and weathers, as data. `names` holds those of the other values.

Tuples follow TIMES and WEATHERS.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from engine.world.words.places import SplitWords, choices


class When(NamedTuple):
    phrases: SplitWords
    nouns: SplitWords
    adjectives: SplitWords


class Weather(NamedTuple):
    phrases: SplitWords
    nouns: SplitWords
    adjectives: SplitWords
    clauses: SplitWords


TIMES: Final = (
    When(
        choices(
            "at dawn, at sunrise, at daybreak, in the early morning, as the sun rises, "
            "at first light, in the morning, "
            "at the crack of dawn, early in the morning, in the morning light, just after sunrise, "
            "before breakfast, in the first rays of the sun, when the sun comes up, as the day "
            "begins, with the rising sun, as morning comes, in the morning sun, while the sun is "
            "rising",
            "at cockcrow, as day breaks",
        ),
        choices(
            "dawn, sunrise, daybreak, early morning, morning, "
            "first light, rising sun, morning light, morning glow, breakfast time",
            "sunup",
        ),
        choices("early-morning, sunrise, dawn, morning, dawning, sunrise-lit", "auroral"),
    ),
    When(
        choices(
            "at noon, at midday, by day, in broad daylight, in the daytime, under the midday sun, "
            "in the middle of the day, "
            "at twelve o'clock, at high noon, in the afternoon, in the early afternoon, under the "
            "blazing sun, with the sun overhead, during the day, in the heat of the day, in "
            "daylight, when the sun is overhead, at siesta time, while it is day, in the daylight",
            "at lunchtime, with the sun at its zenith",
        ),
        choices(
            "noon, midday, daytime, daylight, day, "
            "high noon, afternoon, midday sun, twelve o'clock, early afternoon, full daylight",
            "noontide",
        ),
        choices("midday, daylit, afternoon, daytime, sunlit", "noontime"),
    ),
    When(
        choices(
            "at dusk, at sunset, at sundown, in the evening, as the sun sets, at twilight, "
            "in the evening glow, "
            "at the close of day, as evening comes, as the light fades, when the sun goes down, in "
            "the dying light, towards evening, in the last light, with the sinking sun, as the sun "
            "goes down, in the afterglow, in the sunset glow, late in the day, early in the "
            "evening, while the sun is setting",
            "at nightfall, in the gloaming",
        ),
        choices(
            "dusk, sunset, sundown, evening, twilight, "
            "sunset glow, evening light, setting sun, afterglow, early evening, last light, sinking "
            "sun",
            "eventide",
        ),
        choices("evening, sunset, dusky, twilight, sundown, twilit", "crepuscular"),
    ),
    When(
        choices(
            "at night, by night, at midnight, after dark, under the stars, "
            "in the middle of the night, late at night, "
            "during the night, in the dark, in darkness, by moonlight, under a starry sky, in pitch "
            "darkness, at the witching hour, beneath the night sky, at bedtime, all night long, "
            "under the twinkling stars, long after midnight, by starlight, in the depth of night, "
            "tonight, when it is dark",
            "in the dead of night, in the small hours",
        ),
        choices(
            "night, midnight, starry night, late night, darkness, "
            "night sky, dark night, starlight, moonlight, midnight hour, pitch darkness, bedtime, "
            "starry sky",
            "nighttime",
        ),
        choices("midnight, moonlit, starlit, starry, dark, nightly, night-time", "nocturnal"),
    ),
)

WEATHERS: Final = (
    Weather(
        choices(
            "in clear weather, under a clear sky, under clear skies, in fine weather, "
            "in dry weather, in clear air, "
            "in sunny weather, in the sunshine, in bright sunshine, without a cloud in the sky, "
            "under a cloudless sky, in good weather, in nice weather, with no clouds, with perfect "
            "visibility, in calm weather, in bright weather, in pleasant weather, in crisp air, in "
            "settled weather, under an open sky",
            "in fair conditions, under an untroubled sky",
        ),
        choices(
            "clear weather, clear sky, clear skies, fine weather, dry weather, "
            "sunny weather, sunshine, cloudless sky, good weather, bright weather, no clouds, nice "
            "weather, perfect visibility, calm weather, crisp air, dry air",
            "fair conditions",
        ),
        choices("clear, dry, sunny, cloudless, unclouded, calm, crisp", "fair"),
        choices(
            "the sky is clear, the weather is fine, it is dry, "
            "the sun is shining, there is not a cloud in the sky, the weather is good, the sky is "
            "cloudless, it is sunny, the weather is nice, the air is crisp",
            "the skies are untroubled",
        ),
    ),
    Weather(
        choices(
            "in the rain, in heavy rain, in pouring rain, in a downpour, in the drizzle, under rain clouds, "
            "in a thunderstorm, in a storm, in light rain, in steady rain, in a rain shower, in the "
            "monsoon, in torrential rain, in wet weather, in the pelting rain, while it pours, in "
            "rainy weather, with rain pouring, in stormy weather, as it rains, among raindrops, "
            "with thunder and lightning",
            "in a cloudburst, amid the deluge",
        ),
        choices(
            "rain, heavy rain, pouring rain, downpour, drizzle, showers, "
            "thunderstorm, light rain, torrential rain, raindrops, rain shower, monsoon, wet "
            "weather, rainy weather, storm, steady rain, thunder and lightning",
            "rainstorm",
        ),
        choices(
            "rainy, wet, rain-soaked, stormy, showery, dripping, rain-drenched, soggy, sodden, raining",
            "drizzly",
        ),
        choices(
            "it is raining, it rains, rain is falling, "
            "it is pouring, it is drizzling, rain pours from the sky, it is raining cats and dogs, "
            "it pours, a storm is raging, raindrops fall, the rain falls hard",
            "it is bucketing down",
        ),
    ),
    Weather(
        choices(
            "in falling snow, in the snow, in a snowstorm, in a blizzard, with snowflakes falling, "
            "in light snowfall, "
            "in heavy snow, in light snow, in fresh snow, in thick snowfall, in a snow shower, with "
            "snow falling, in snowy weather, as it snows, through whirling snow, in driving snow, "
            "in sleet, in a whiteout, in a winter storm, in a snow squall, while it snows",
            "in a flurry, amid drifting flakes",
        ),
        choices(
            "snow, snowfall, falling snow, snowstorm, blizzard, snowflakes, "
            "heavy snow, light snow, fresh snow, snow shower, snowy weather, sleet, whiteout, "
            "winter storm, driving snow, thick snowfall",
            "flurries",
        ),
        choices("snowy, snowing, blizzardy, snow-laden, sleety, snow-filled, snowbound", "snowswept"),
        choices(
            "it is snowing, it snows, snow is falling, "
            "it is snowing heavily, snowflakes fall, a blizzard is raging, snow falls softly, it "
            "snows hard, the snow is coming, snow covers everything",
            "flakes are drifting down",
        ),
    ),
    Weather(
        choices(
            "in the fog, in thick fog, in the mist, in a haze, shrouded in mist, in dense fog, "
            "in foggy weather, in misty weather, in a fog bank, through swirling mist, through "
            "wisps of fog, with fog all around, veiled in mist, wrapped in fog, in low cloud, in "
            "poor visibility, in smog, in a pea soup fog, through a thick haze, covered in fog, in "
            "hazy air, in rolling fog, under a blanket of fog",
            "in the murk, lost in vapour",
        ),
        choices(
            "fog, mist, thick fog, haze, dense fog, "
            "swirling mist, fog bank, low cloud, smog, misty weather, foggy weather, pea soup fog, "
            "rolling fog, hazy air, poor visibility, thin mist, wisps of mist",
            "murk",
        ),
        choices(
            "foggy, misty, hazy, mist-covered, fog-covered, smoggy, mist-shrouded, fog-filled, veiled",
            "fogbound",
        ),
        choices(
            "it is foggy, it is misty, fog lies over everything, "
            "it is hazy, mist is rising, fog rolls in, mist hangs in the air, the fog is thick, you "
            "can hardly see anything, a thick fog has come",
            "the air is murky",
        ),
    ),
)
