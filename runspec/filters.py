"""Quality filters: each drops some rows, and says why. A filter is one variant here and one function in
`training/curation/filters.py`.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from runspec.strict import Strict, check_pattern, disagreement

Subject = Literal["prompt", "answer", "row"]
"""Which part of a row is examined: what users say, what is trained on, or both. A plain text is all answer."""


class LengthFilter(Strict):
    """Drops what is too short or too long to be worth learning."""

    kind: Literal["length"] = "length"
    of: Subject = "answer"
    """What is measured: what users say, what is trained on, or both together."""
    unit: Literal["words", "characters"] = "words"
    """What is counted. In Chinese, Japanese and Thai each character is a word."""
    min: int | None = Field(default=None, ge=1)
    """Rows with fewer are dropped. Null: no lower limit."""
    max: int | None = Field(default=None, ge=1)
    """Rows with more are dropped. Null: no upper limit."""

    @model_validator(mode="after")
    def _limits_agree(self) -> "LengthFilter":
        if self.min is None and self.max is None:
            raise disagreement("A length filter without `min` and `max` drops nothing.", fix="Set one of them.")
        if self.min is not None and self.max is not None and self.min > self.max:
            what = f"`min` is {self.min} and `max` is {self.max}, so every row would be dropped."
            raise disagreement(what, "min", "max", fix="Swap them.")
        return self


class RepetitionFilter(Strict):
    """Drops rows that repeat themselves, as a model caught in a loop does."""

    kind: Literal["repetition"] = "repetition"
    of: Subject = "answer"
    """Which part of a row is examined."""
    unit: Literal["words", "lines"] = "words"
    """Whether runs of words are compared, or whole lines."""
    size: int = Field(default=4, ge=1, le=20)
    """Words in a run; not used for lines."""
    max_share: float = Field(default=0.3, ge=0, lt=1)
    """Largest share of the runs (or lines) that may be repeats."""


class SymbolsFilter(Strict):
    """Drops rows that are mostly punctuation, markup or emoji. Not for code."""

    kind: Literal["symbols"] = "symbols"
    of: Subject = "answer"
    """Which part of a row is examined."""
    max_share: float = Field(default=0.3, ge=0, lt=1)
    """Largest share of characters, without white space, that may be neither letter nor digit."""


class ScriptFilter(Strict):
    """Drops rows in other scripts than the wanted ones: a cheap substitute for language identification."""

    kind: Literal["script"] = "script"
    of: Subject = "row"
    """Which part of a row is examined."""
    scripts: tuple[
        Literal[
            "latin",
            "cyrillic",
            "greek",
            "arabic",
            "hebrew",
            "devanagari",
            "bengali",
            "tamil",
            "thai",
            "hangul",
            "hiragana",
            "katakana",
            "cjk",
            "georgian",
            "armenian",
            "ethiopic",
        ],
        ...,
    ] = Field(default=("latin",), min_length=1)
    """Wanted scripts, by their Unicode names; Chinese characters are `cjk`."""
    min_share: float = Field(default=0.9, gt=0, le=1)
    """Smallest share of the letters that must be of these scripts. Rows without letters are kept."""


class BoilerplateFilter(Strict):
    """Drops refusals and phrases that give away another model's answer."""

    kind: Literal["boilerplate"] = "boilerplate"
    of: Subject = "answer"
    """Which part of a row is examined."""
    phrases: tuple[str, ...] = Field(
        default=(
            "as an ai language model",
            "as a large language model",
            "as an ai assistant",
            "as an artificial intelligence",
            "i am an ai language model",
            "my knowledge cutoff",
            "as of my last update",
            "i cannot fulfill that request",
            "i cannot fulfill this request",
            "i can't assist with that",
            "i cannot assist with that",
            "i'm sorry, but i can't",
            "i'm sorry, but i cannot",
            "i'm unable to assist",
            "lorem ipsum",
        ),
        min_length=1,
    )
    """Phrases to look for, ignoring case. Your own list replaces these."""


class PatternFilter(Strict):
    """Drops rows in which a regular expression is found, or keeps only those."""

    kind: Literal["pattern"] = "pattern"
    of: Subject = "answer"
    """What is searched."""
    pattern: Annotated[str, AfterValidator(check_pattern)] = Field(min_length=1)
    """Python regular expression; `(?i)` at the start ignores case. It may match anywhere."""
    drop: Literal["found", "missing"] = "found"
    """Drop the rows in which it is found, or those in which it is missing."""


class ValidJsonFilter(Strict):
    """Drops answers that are not strict JSON, or lack a key. For tasks whose answers are JSON."""

    kind: Literal["valid_json"] = "valid_json"
    keys: tuple[str, ...] = ()
    """Keys that every answer must have. Empty: any JSON value is kept."""


class EchoFilter(Strict):
    """Drops answers that only repeat the prompt."""

    kind: Literal["echo"] = "echo"
    max_similarity: float = Field(default=0.9, gt=0, le=1)
    """An answer at least this similar to its prompt is dropped (Jaccard of their words)."""


class UnfinishedFilter(Strict):
    """Drops answers that were cut off: a code block left open, or an end in the middle of a sentence."""

    kind: Literal["unfinished"] = "unfinished"
    endings: str = Field(default=",;:-([{", min_length=1)
    """Characters that no finished answer ends with."""


QualityFilter = Annotated[
    LengthFilter
    | RepetitionFilter
    | SymbolsFilter
    | ScriptFilter
    | BoilerplateFilter
    | PatternFilter
    | ValidJsonFilter
    | EchoFilter
    | UnfinishedFilter,
    Field(discriminator="kind"),
]
