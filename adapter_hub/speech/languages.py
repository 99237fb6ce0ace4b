"""Language tags, what Whisper calls a language, and which languages are written without word spaces.

>>> primary_metric(["da"]), primary_metric(["ja"]), primary_metric(["zh-Hant"])
('wer', 'cer', 'cer')
>>> whisper_code("nb-NO"), whisper_code("Tagalog"), whisper_code("fil"), language_tag("Javanese")
('no', 'tl', 'tl', 'jv')
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from adapter_hub.formats.claims import MetricName

# spaces do not separate words, so a word error rate would measure how the writer uses spaces
# Whisper's codes with ISO 639-3's and English names, as its tokenizer has them (openai/whisper, tokenizer.py)
_WHISPER = """
en eng english; zh zho chinese; de deu german; es spa spanish; ru rus russian; ko kor korean; fr fra
french; ja jpn japanese; pt por portuguese; tr tur turkish; pl pol polish; ca cat catalan; nl nld dutch;
ar ara arabic; sv swe swedish; it ita italian; id ind indonesian; hi hin hindi; fi fin finnish; vi vie
vietnamese; he heb hebrew; uk ukr ukrainian; el ell greek; ms msa malay; cs ces czech; ro ron romanian;
da dan danish; hu hun hungarian; ta tam tamil; no nor norwegian; th tha thai; ur urd urdu; hr hrv
croatian; bg bul bulgarian; lt lit lithuanian; la lat latin; mi mri maori; ml mal malayalam; cy cym
welsh; sk slk slovak; te tel telugu; fa fas persian; lv lav latvian; bn ben bengali; sr srp serbian; az
aze azerbaijani; sl slv slovenian; kn kan kannada; et est estonian; mk mkd macedonian; br bre breton; eu
eus basque; is isl icelandic; hy hye armenian; ne nep nepali; mn mon mongolian; bs bos bosnian; kk kaz
kazakh; sq sqi albanian; sw swa swahili; gl glg galician; mr mar marathi; pa pan punjabi; si sin
sinhala; km khm khmer; sn sna shona; yo yor yoruba; so som somali; af afr afrikaans; oc oci occitan; ka
kat georgian; be bel belarusian; tg tgk tajik; sd snd sindhi; gu guj gujarati; am amh amharic; yi yid
yiddish; lo lao lao; uz uzb uzbek; fo fao faroese; ht hat haitian creole; ps pus pashto; tk tuk turkmen;
nn nno nynorsk; mt mlt maltese; sa san sanskrit; lb ltz luxembourgish; my mya myanmar; bo bod tibetan;
tl tgl tagalog; mg mlg malagasy; as asm assamese; tt tat tatar; haw haw hawaiian; ln lin lingala; ha hau
hausa; ba bak bashkir; jw jav javanese; su sun sundanese; yue yue cantonese
"""
_ROWS = [row.strip().split(maxsplit=2) for row in _WHISPER.split(";")]
# what else people write: retired and bibliographic codes, the usual variety of a language, other names
_OTHERS = {
    "nb": "no", "nob": "no", "jv": "jw", "fil": "tl", "cmn": "zh", "iw": "he", "in": "id", "ji": "yi",
    "mo": "ro", "arb": "ar", "pes": "fa", "swh": "sw", "ekk": "et", "lvs": "lv", "zsm": "ms",
    "npi": "ne", "khk": "mn", "azj": "az", "als": "sq", "uzn": "uz", "plt": "mg", "ydd": "yi",
    "pbt": "ps", "ger": "de", "fre": "fr", "dut": "nl", "gre": "el", "cze": "cs", "rum": "ro",
    "per": "fa", "wel": "cy", "ice": "is", "arm": "hy", "alb": "sq", "baq": "eu", "mac": "mk",
    "chi": "zh", "may": "ms", "bur": "my", "geo": "ka", "slo": "sk", "tib": "bo", "mao": "mi",
    "bokmål": "no", "filipino": "tl", "mandarin": "zh", "farsi": "fa", "burmese": "my",
    "castilian": "es", "flemish": "nl", "valencian": "ca", "panjabi": "pa", "pushto": "ps",
    "moldovan": "ro", "haitian": "ht", "sinhalese": "si", "letzeburgesch": "lb",
}  # fmt: skip
_CODES = {alias: row[0] for row in _ROWS for alias in row} | _OTHERS
WHISPER_CODES = tuple(row[0] for row in _ROWS)
_NAMES = {row[2]: row[0] for row in _ROWS} | {name: code for name, code in _OTHERS.items() if len(name) > 3}
_TITLES = {row[0]: row[2].title() for row in _ROWS}
_TAGS = {"jw": "jv"}  # where Whisper's code is not the BCP 47 tag
FEW = 5  # languages that are all named in an error
CHINESE = frozenset({
    "zh", "cdo", "cjy", "cmn", "cpx", "czh", "czo", "gan", "hak", "hsn", "lzh", "mnp", "nan", "wuu", "yue",
})  # fmt: skip
WITHOUT_WORD_SPACES = CHINESE | {"ja", "th", "nod", "tts", "shn", "lo", "my", "km", "bo", "dz"}


def primary_subtag(tag: str) -> str:
    """Return the language of a BCP 47 tag without script and region.

    >>> primary_subtag("zh-Hant-TW")
    'zh'
    """
    return tag.replace("_", "-").split("-", 1)[0].lower()


def language_tag(text: str) -> str:
    """Return the BCP 47 tag of a language that is given by its English name; any other text as it is.

    >>> language_tag("English"), language_tag("en-US")
    ('en', 'en-US')

    Args:
        text: a tag or a name.
    """
    code = _NAMES.get(" ".join(text.split()).lower())
    return text if code is None else _TAGS.get(code, code)


def whisper_code(tag: str) -> str:
    """Return the code by which Whisper knows a language, or the first part of the tag if it knows none.

    Args:
        tag: a BCP 47 tag, an ISO 639 code or an English name.
    """
    part = primary_subtag(language_tag(tag))
    return _CODES.get(part, part)


def closest_tags(tag: str, others: Iterable[str]) -> list[str]:
    """Return those of other tags that are for the same language, the closest first.

    >>> closest_tags("pt-BR", ["pt-PT", "es", "pt", "pt-BR"]), closest_tags("Norwegian", ["nb-NO", "sw"])
    (['pt-BR', 'pt', 'pt-PT'], ['nb-NO'])

    Args:
        tag: BCP 47, or an English name; a script or region that it names is preferred, not required.
        others: BCP 47.
    """
    language, wanted = whisper_code(tag), _varieties(tag)

    def distance(other: str) -> tuple[int, int]:
        theirs = _varieties(other)
        shared = next((i for i, (a, b) in enumerate(zip(wanted, theirs, strict=False)) if a != b), None)
        shared = min(len(wanted), len(theirs)) if shared is None else shared
        return -shared, len(theirs)

    return sorted((other for other in others if whisper_code(other) == language), key=distance)


def _varieties(tag: str) -> list[str]:
    """Return what a tag says beyond its language: script, region, and so on."""
    return language_tag(tag).replace("_", "-").lower().split("-")[1:]


def nearest_languages(text: str, known: Sequence[str]) -> str:
    """Return the known languages that a text looks most like, for an error.

    >>> nearest_languages("danisch", ["da", "el", "en", "it", "ja", "zh"])
    'da (Danish)'

    Args:
        text: that is none of them.
        known: Whisper's codes; few of them are all named.
    """
    names = {word: code for code in known for word in (code, _TITLES.get(code, code).lower())}
    near = [names[word] for word in get_close_matches(text.lower(), list(names), n=4, cutoff=0.6)]
    shown = list(dict.fromkeys(near))[:3] if len(known) > FEW else list(known)
    if not shown:
        return f"one of {len(known)} languages, like {', '.join(known[:3])}"
    return ", ".join(f"{code} ({_TITLES[code]})" if code in _TITLES else code for code in shown)


def has_word_spaces(tag: str) -> bool:
    """Tell whether the language of a BCP 47 tag separates its words by spaces; in Latin letters all do.

    >>> has_word_spaces("nan"), has_word_spaces("nan-Latn"), has_word_spaces("da")
    (False, True, True)
    """
    return primary_subtag(tag) not in WITHOUT_WORD_SPACES or "latn" in tag.lower().replace("_", "-").split(
        "-"
    )


def primary_metric(tags: Iterable[str]) -> MetricName:
    """Return the main error rate: `cer` if one of the languages has no word spaces, else `wer`."""
    return "wer" if all(map(has_word_spaces, tags)) else "cer"
