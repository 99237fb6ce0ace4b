"""Who speaks in which split: espeak-ng's voice variants, shared out so that no voice occurs in two splits.

Variants that are near copies of one another (by the distance of their mean log spectra) are in one split
together. Left out: what sounds like the plain voice (fast), whispers (whisper, whisperf, klatt, klatt2),
speaks very slowly (Marco, AnxiousAndy) or is hardly speech (Demonic, UniRobot, anikaRobot, zac,
kaukovalta).
"""

from __future__ import annotations

from adapter_hub.errors import InvalidInputError

VOICES: dict[str, tuple[str, ...]] = {
    "pretraining": (
        "m1", "m2", "m3", "m6", "Alex", "Mike", "croak", "john",
        "m4", "m5", "grandpa", "max", "pedro",
        "adam", "Reed", "benjamin", "edward2", "mike2",
        "klatt3", "klatt4", "klatt5", "announcer", "edward", "robosoft", "robosoft2", "robosoft3",
        "m8", "robosoft4", "robosoft5",
        "f1", "f2", "f3", "f5", "aunty", "anika", "caleb",
        "Lee", "Andy", "boris", "Tweaky", "paul", "norbert", "david", "ian",
    ),
    "adaptation": (
        "Alicia", "Andrea", "belinda", "steph", "steph2",
        "iven", "iven2", "Gene", "Gene2", "sandro", "quincy",
        "victor", "RicishayMax", "RicishayMax2", "pablo", "robosoft8",
    ),
    "dev": (
        "f4", "grandma",
        "Mario", "m7", "Nguyen", "ed", "Denis", "Storm",
    ),
    "test": (
        "Annie", "shelby", "linda",
        "Diogo", "Henrique", "Hugo", "michel", "miguel", "rob", "robert", "Michael", "gustave",
        "marcelo", "travis", "Jacky", "antonio",
    ),
}  # fmt: skip
"""The variants of each split, women's voices first in the three smaller ones."""

ESPEAK_LANGUAGES = {
    "cy": "cy",
    "da": "da",
    "el": "el",
    "en": "en-us",
    "es": "es",
    "it": "it",
    "ja": "ja",
    "pl": "pl",
    "pt": "pt-br",
    "zh": "cmn",
}
"""espeak-ng's name of each language."""


def voices_of(split: str) -> tuple[str, ...]:
    """The variants of a split; `pretraining-test` is spoken by the voices of `dev`."""
    name = "dev" if split == "pretraining-test" else split
    if name not in VOICES:
        raise InvalidInputError(
            f"no split {split!r}: choose one of {', '.join((*VOICES, 'pretraining-test'))}"
        )
    return VOICES[name]


def espeak_voice(language: str, variant: str) -> str:
    """The name by which espeak-ng knows a variant in a language, such as `pt-br+f4`.

    Args:
        language: one of `ESPEAK_LANGUAGES`.
        variant: one of `VOICES`.
    """
    if language not in ESPEAK_LANGUAGES:
        raise InvalidInputError(
            f"no voices in language {language!r}: choose one of {', '.join(ESPEAK_LANGUAGES)}"
        )
    return f"{ESPEAK_LANGUAGES[language]}+{variant}"
