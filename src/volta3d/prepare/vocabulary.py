"""The only words taken from the descriptions of headers and JSON files, and what they mean.

Free text never leaves a header: it is searched for the patterns below, and the names of those that
fit are kept. How a weighting is read from them, or from timing, stands here too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

_HINTS = {
    "localiser": r"\b(loc|locali[sz]er|(aa)?scout\w*|survey\w*|(3|three) ?pl(ane)?)\b|smartbrain",
    "t1": r"t1|mp ?rage|\b(f?spgr|bravo|mdeft|ir ?prep|\w*tfe\w*|vibe|flash\w*|lava|brainview)\b",
    "other": r"t2|flair|\b(dwi|dti|diff\w*|adc|trace\w*|fa|bold|fmri|epi|ep2d\w*|asl|pcasl|perf\w*|"
    r"dsc|dce|swi|swan|phase\w*|field ?map\w*|gre field\w*|b0\w*|b1\w*|angio\w*|tof\w*|mra|mrv|"
    r"pdw?|proton|stir|ciss|fiesta|qsm|mrs|csi|svs|rest\w*|task\w*|noddi|cine|mrcp)\b",
    "inversion-pair": r"\binv ?[12]\b",
    "map": r"\b[tr][12] ?\*? ?(star )?map\w*|\bpd ?map|\bm[tw]\w{0,3} ?map|molli|relaxo\w*|"
    r"\bmp2rage\b.*\bt1 images?\b|\bquantitative\b|\bsymri\b|\bmagic map",
    "uniform": r"\buni(t1| ?den\w*| images?)?\b",
    "contrast": r"\b(gad|gd|gado\w*|gadovist|gadavist|magnevist|dotarem|prohance|multihance|"
    r"omniscan|clariscan|post|postcontrast|contrast|kontrast|km|kmg|enhanced|t1c|t1ce|t1gd|ce t1|"
    r"t1 ce)\b",
    "native": r"\b(pre|precontrast|native|nativ|plain|without|no|non|w o|unenhanced|ohne|sans) ?"
    r"(the )?(gad|gd|gado\w*|contrast|kontrast|km)?\b",
    "head": r"brain|\b(head|skull|cranium|crane|kopf|schaedel|schadel|hirn|gehirn|cerebr\w*|"
    r"cerveau|tete|cabeza|cerebro|neuro)\b",
    "other-body": r"\b([ctlhbw] ?spine|spine\w*|spinal|cervical\w*|thora\w*|lumbar\w*|sacr\w*|"
    r"hws|bws|lws|wirbel\w*|neck|hals|knees?|knie|shoulders?|schulter|hips?|huefte|pelvi\w*|"
    r"becken|abdom\w*|liver|leber|kidneys?|prostat\w*|breasts?|mamma\w*|chest|lungs?|heart|"
    r"herz|cardiac|wrists?|hands?|elbows?|ankles?|foot|feet|fuss|legs?|thighs?|femur|tibia|"
    r"forearm|finger|toes?|uterus|pancreas|"
    r"carotids?|larynx|pharynx)\b",
    "part-of-head": r"\b(orbits?|orbita|pituitary|hypophys\w*|sella|iac|tmj|parotid|tongue|"
    r"hippocamp\w*|hipp|temporal lobes?|slab)\b",
}  # fmt: skip
_IMAGE_WORDS = {
    "ORIGINAL", "DERIVED", "PRIMARY", "SECONDARY", "LOCALIZER", "MPR", "MIP", "MINIP",
    "REFORMATTED", "PROJECTION IMAGE", "SUBTRACTION", "SUBTRACT", "AVERAGE", "SCREEN SAVE",
    "CSA MPR", "CSAPARALLEL", "P", "PHASE", "PHASE MAP", "PHASE_MAP", "R", "REAL", "I",
    "IMAGINARY", "ADC", "FA", "TRACEW", "FMRI", "MOSAIC", "DIFFUSION", "UNI", "MOCO",
}  # fmt: skip
_NO_AGENT = {"", "none", "no", "n", "n/a", "na", "null", "false", "without", "0"}
_MAKERS = {
    "siemens": "Siemens", "ge med": "GE", "general electric": "GE", "ge health": "GE",
    "philips": "Philips", "toshiba": "Canon", "canon": "Canon", "hitachi": "Fujifilm",
    "fujifilm": "Fujifilm", "united imaging": "UIH", "uih": "UIH", "bruker": "Bruker",
    "hyperfine": "Hyperfine", "esaote": "Esaote",
}  # fmt: skip
_MODELS = (
    "Prisma_fit", "Prisma", "TrioTim", "Trio", "Skyra_fit", "Skyra", "Verio", "Avanto_fit",
    "Avanto", "Aera", "Espree", "Symphony", "Sonata", "Allegra", "Vida", "Sola", "Lumina",
    "Altea", "Amira", "Terra", "Biograph_mMR", "Investigational_Device_7T", "Achieva dStream",
    "Achieva", "Ingenia Elition X", "Ingenia Ambition X", "Ingenia", "Intera", "Gyroscan",
    "Panorama", "MR 7700", "Signa Premier", "Signa Architect", "Signa Artist", "Signa Voyager",
    "Signa Pioneer", "Signa HDxt", "Signa HDx", "Signa Excite", "Signa PET/MR", "Signa",
    "Genesis_Signa", "Discovery MR750w", "Discovery MR750", "Discovery MR450", "Optima MR450w",
    "Optima MR360", "Vantage Titan", "Vantage Galan", "Vantage Orian", "Vantage", "Oasis",
    "Echelon", "uMR 790", "uMR 780", "uMR 770", "uMR 890", "Swoop",
)  # fmt: skip


def hints(described: str, sequence: str) -> frozenset[str]:
    """Which of a few meanings the descriptions carry, and the kinds of pulse sequence."""
    text = re.sub(r"\+ ?c\b|\bc ?\+", " contrast ", described.lower())
    text = re.sub(r"[^a-z0-9]+", " ", text)
    found = {name for name, pattern in _HINTS.items() if re.search(pattern, text)}
    kinds = {"SE", "GR", "IR", "EP", "RM", "SPIN", "GRADIENT", "BOTH"}
    return frozenset(found | (kinds & set(re.split(r"[^A-Z]+", sequence.upper()))))


def image_words(image_type: Iterable[str]) -> frozenset[str]:
    """The known words of an image type."""
    given = {w.strip().upper() for w in image_type}
    maps = {"MAP" for w in given if re.search(r"\bMAP$", w.replace("_", " ")) and "PHASE" not in w}
    return frozenset((given & _IMAGE_WORDS) | maps)


def body_part(text: str) -> str:
    """What BodyPartExamined says: ``head``, ``other``, or nothing that is known."""
    found = hints(text.replace("SPINE", " SPINE"), "")
    if "head" in found:
        return "head"
    return "other" if "other-body" in found else ""


def names_agent(text: str) -> bool:
    """Whether a field for a contrast agent names one."""
    return text.strip().lower() not in _NO_AGENT


def manufacturer(text: str) -> str:
    """One of the known makers, else empty."""
    return next((name for key, name in _MAKERS.items() if key in text.lower()), "")


def model(text: str) -> str:
    """One of the known models, else empty."""
    plain = re.sub(r"[\s_]+", " ", text.lower()).strip()
    return next((m for m in _MODELS if re.sub(r"[\s_]+", " ", m.lower()) in plain), "")


def is_t1(found: frozenset[str], echo: float, repetition: float, inversion: float) -> bool | None:
    """Whether a series is T1-weighted: by its description, else by its timing; None if unknown.

    A spin echo is T1-weighted with TR up to 1200 ms and TE up to 30 ms; a gradient echo with a
    preparing inversion of 300 to 1500 ms, or TR up to 60 ms; TE above 60 ms is T2.
    """
    if ("t1" in found) != ("other" in found):
        return "t1" in found
    if math.isnan(echo) or math.isnan(repetition):
        return None
    if echo > 30 or "EP" in found:
        return False
    if 300 <= inversion <= 1500:
        return True
    return repetition <= 1200
