"""The catalogue of GPUs for fine-tuning: memory, speed and price of each."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from datetime import date

from cluster.machine.hardware import Gpu
from runspec.errors import HardwareError

CATALOGUE_DATE = date(2026, 11, 23)
"""When the catalogue was last revised."""
MIB, GIGA, TERA = 2**20, 1e9, 1e12


@dataclass(frozen=True)
class Card:
    """One kind of GPU. Speeds are from NVIDIA's data sheets; prices are what several clouds charged on demand between
    March and November 2026.

    Attributes:
        label: what people call it.
        pattern: matches nvidia-smi's name.
        memory_bytes: as nvidia-smi reports it.
        capability: compute capability.
        flops: dense bfloat16 products with float32 sums, in operations a second.
        bandwidth: of its own memory, in bytes a second.
        link: bytes a second to another card of the machine: NVLink, or PCIe through the host.
        efficiency: share of `flops` that QLoRA reaches with large batches. The runs published in AnswerDotAI/fsdp_qlora
            (benchmarks_03_2024.md) give 0.33 on H100, 0.52 on A100, 0.56 to 0.61 on RTX 4090, 0.67 on RTX 3090; the
            others are assumed.
        usd_low, usd_high: USD per GPU-hour; None where no price was found.
        min_memory_bytes: distinguishes the 80 GB A100 from the 40 GB one.
    """

    label: str
    pattern: str
    memory_bytes: int
    capability: float
    flops: float
    bandwidth: float
    link: float
    efficiency: float
    usd_low: float | None = None
    usd_high: float | None = None
    min_memory_bytes: float = 0

    def covers(self, gpu: Gpu) -> bool:
        return bool(re.search(self.pattern, gpu.name)) and gpu.memory_bytes >= self.min_memory_bytes

    @property
    def usd_per_hour(self) -> float | None:
        """The middle of the prices seen."""
        if self.usd_low is None or self.usd_high is None:
            return None
        return (self.usd_low + self.usd_high) / 2

    @property
    def price_source(self) -> str:
        if self.usd_low is None or self.usd_high is None:
            return f"no price known for {self.label}: set hardware.price_usd_per_hour"
        seen = f"{self.usd_low} to {self.usd_high}" if self.usd_low < self.usd_high else f"{self.usd_low}"
        return f"{self.label}, {seen} on demand, the middle taken"


CARDS = (
    Card(
        "RTX 3090", r"\bRTX 3090\b(?! Ti)", 24576 * MIB, 8.6, 71 * TERA, 936 * GIGA, 10 * GIGA, 0.6, 0.18, 0.18
    ),
    Card(
        "RTX 4090", r"\bRTX 4090\b(?! (Laptop|D\b))", 24564 * MIB, 8.9, 165 * TERA, 1008 * GIGA, 12 * GIGA, 0.55,
        0.29, 0.34,
    ),
    Card("L4", r"\bL4\b", 23034 * MIB, 8.9, 121 * TERA, 300 * GIGA, 12 * GIGA, 0.35, 0.44, 0.44),
    Card("L40S", r"\bL40S\b", 46068 * MIB, 8.9, 362 * TERA, 864 * GIGA, 12 * GIGA, 0.4),
    Card(
        "A100 80 GB", r"\bA100\b", 81920 * MIB, 8.0, 312 * TERA, 2039 * GIGA, 200 * GIGA, 0.5, 1.19, 3.43, 70e9
    ),
    Card("H100", r"\bH100\b", 81559 * MIB, 9.0, 989 * TERA, 3350 * GIGA, 300 * GIGA, 0.35, 2.69, 6.88, 70e9),
    Card("H200", r"\bH200\b", 143771 * MIB, 9.0, 989 * TERA, 4800 * GIGA, 300 * GIGA, 0.35),
)  # fmt: skip
"""From the smallest to the largest."""


def card_of(gpu: Gpu) -> Card | None:
    """The kind of a GPU; None where it is not in the catalogue."""
    return next((card for card in CARDS if card.covers(gpu)), None)


def parse_cards(text: str) -> tuple[int, Card]:
    """Read `2x RTX 4090`, `RTX 4090` or `8 x H100`.

    Returns:
        How many, and of which kind.

    Raises:
        HardwareError: it is not of this form, or the kind is not in the catalogue.
    """
    match = re.fullmatch(r"\s*(?:(\d{1,3})\s*[x×*]\s*)?(\S.*?)\s*", text, re.IGNORECASE)
    labels = [card.label for card in CARDS]
    if match is None or (match[1] is not None and int(match[1]) == 0):
        raise HardwareError(
            f"`{text}` is not hardware.", where=f"--hardware {text!r}", fix='Write it as "2x RTX 4090".'
        )
    if (card := card_called(match[2])) is not None:
        return int(match[1] or 1), card
    near = difflib.get_close_matches(match[2], labels, n=1, cutoff=0.5)
    raise HardwareError(
        f"No card `{match[2]}` in the catalogue.",
        where=f"--hardware {text!r}",
        fix=(f"Did you mean `{near[0]}`? " if near else "") + f"The catalogue has {', '.join(labels)}.",
    )


def card_called(text: str) -> Card | None:
    """The kind by the name that people or Ray (`GeForce-RTX-4090`, `A100-80G`) give it; None where it is unknown."""
    wanted = _plain(text)
    for card in CARDS:
        label = _plain(card.label)
        if wanted in (label, label.removeprefix("rtx"), label.rstrip("b"), label.rstrip("gb")):
            return card
    return None


def _plain(label: str) -> str:
    return re.sub(r"[\W_]|nvidia|geforce", "", label.lower())
