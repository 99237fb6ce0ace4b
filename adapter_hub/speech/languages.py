"""The languages that Whisper has tokens for, and which languages are written without word spaces.

>>> primary_metric(["da"]), primary_metric(["ja"]), primary_metric(["zh-Hant"])
('wer', 'cer', 'cer')
"""

from __future__ import annotations

from collections.abc import Iterable

from adapter_hub.formats.claims import MetricName

# words cannot be told apart by spaces, so a word error rate would measure the writer's habits
WITHOUT_WORD_SPACES = frozenset({"zh", "cmn", "yue", "ja", "th", "lo", "my", "km", "bo"})

_NAMES = """
af Afrikaans, am Amharic, ar Arabic, as Assamese, az Azerbaijani, ba Bashkir, be Belarusian, bg Bulgarian,
bn Bengali, bo Tibetan, br Breton, bs Bosnian, ca Catalan, cs Czech, cy Welsh, da Danish, de German, el Greek,
en English, es Spanish, et Estonian, eu Basque, fa Persian, fi Finnish, fo Faroese, fr French, gl Galician,
gu Gujarati, ha Hausa, haw Hawaiian, he Hebrew, hi Hindi, hr Croatian, ht Haitian Creole, hu Hungarian,
hy Armenian, id Indonesian, is Icelandic, it Italian, ja Japanese, jw Javanese, ka Georgian, kk Kazakh,
km Khmer, kn Kannada, ko Korean, la Latin, lb Luxembourgish, ln Lingala, lo Lao, lt Lithuanian, lv Latvian,
mg Malagasy, mi Maori, mk Macedonian, ml Malayalam, mn Mongolian, mr Marathi, ms Malay, mt Maltese,
my Myanmar, ne Nepali, nl Dutch, nn Nynorsk, no Norwegian, oc Occitan, pa Punjabi, pl Polish, ps Pashto,
pt Portuguese, ro Romanian, ru Russian, sa Sanskrit, sd Sindhi, si Sinhala, sk Slovak, sl Slovenian, sn Shona,
so Somali, sq Albanian, sr Serbian, su Sundanese, sv Swedish, sw Swahili, ta Tamil, te Telugu, tg Tajik,
th Thai, tk Turkmen, tl Tagalog, tr Turkish, tt Tatar, uk Ukrainian, ur Urdu, uz Uzbek, vi Vietnamese,
yi Yiddish, yo Yoruba, yue Cantonese, zh Chinese
"""
# decode language (Whisper's token; `jw` is its spelling of Javanese) to English name
WHISPER_LANGUAGES: dict[str, str] = dict(
    item.strip().split(" ", 1) for item in _NAMES.replace("\n", " ").split(",")
)


def primary_subtag(tag: str) -> str:
    """Return the language of a BCP 47 tag without script and region.

    >>> primary_subtag("zh-Hant-TW")
    'zh'
    """
    return tag.replace("_", "-").split("-", 1)[0].lower()


def has_word_spaces(tag: str) -> bool:
    """Tell whether the language of a BCP 47 tag separates its words by spaces."""
    return primary_subtag(tag) not in WITHOUT_WORD_SPACES


def primary_metric(tags: Iterable[str]) -> MetricName:
    """Return the error rate to lead with: `cer` as soon as one language has no word spaces."""
    return "wer" if all(map(has_word_spaces, tags)) else "cer"


def language_name(tag: str) -> str:
    """Return the English name of a language, or the tag itself where Whisper has none."""
    return WHISPER_LANGUAGES.get(primary_subtag(tag), tag)
