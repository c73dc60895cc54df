"""The memory model: terms that add up, published measurements, and what more or less of anything does."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from support.planned_runs import SEVENTY, machine, shape, site, spec

from runspec.model import Nf4, Unquantised
from runspec.strategy import Concrete, Ddp, DeviceMap, Zero2, Zero3
from training.planning.footprints import weight_bytes, weights_of
from training.planning.layout import Part, fullest_part, parts_of
from training.planning.memory import MemoryNeed, Phase, memory_of
from training.planning.sites import GIB, this_site

OFFLOAD = Zero3(offload_parameters=True, offload_optimizer=True)
LLAMA_8B = "meta-llama/Llama-3.1-8B"


def need(model: str, strategy: Concrete, where: str, **values: Any) -> MemoryNeed:
    return memory_of(shape(model), spec(model, **values), strategy, site(where))


def phase(found: MemoryNeed, name: str) -> Phase:
    return next(each for each in found.phases if each.name == name)


def term(found: Phase, name: str) -> int:
    """Bytes of one term on the card; 0 where it is not there."""
    return next((each.bytes for each in (*found.card, *found.host) if each.name == name), 0)


def test_bits_of_nf4() -> None:
    """QLoRA's paper, section 3: double quantisation takes 0.5 bit a weight down to 0.127."""
    assert 8 * weight_bytes(Nf4(), 2) == pytest.approx(4.127, abs=0.0005)
    assert 8 * weight_bytes(Nf4(double=False), 2) == 4.5
    assert [weight_bytes(Unquantised(), number) for number in (2, 4)] == [2, 4]


def test_weights_of_seventy_billion() -> None:
    """68.45 B parameters in four bits and their scales are 35.3 GB, embeddings and head in bfloat16 4.2 GB."""
    weights = weights_of(shape(SEVENTY), spec(SEVENTY), 2)
    assert (weights.linear + weights.scales) / 1e9 == pytest.approx(35.3, abs=0.05)
    assert weights.outer / 1e9 == pytest.approx(4.2, abs=0.01)
    assert weights.whole / 1e9 == pytest.approx(39.5, abs=0.05)
    plain = weights_of(shape(SEVENTY), spec(SEVENTY), 2, quantised=False)
    assert plain.whole == 2 * shape(SEVENTY).parameters


def test_storage_takes_the_same_bytes() -> None:
    """NF4 weights kept as bfloat16 are four of them to a number: no more bytes than as uint8."""
    found = [
        need(LLAMA_8B, Ddp(), "1x L4", model__quantization={"kind": "nf4", "storage": storage}).card_bytes
        for storage in ("uint8", "bfloat16")
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("strategy", [Ddp(), Zero2(), Zero3(), DeviceMap(), OFFLOAD])
@pytest.mark.parametrize("where", ["1x RTX 4090", "2x RTX 4090", "8x H100"])
@pytest.mark.parametrize("method", ["sft", "dpo", "orpo", "kto"])
def test_terms_add_up(strategy: Concrete, where: str, method: str) -> None:
    found = need(LLAMA_8B, strategy, where, method={"kind": method})
    for each in found.phases:
        assert each.card_bytes == sum(term.bytes for term in each.card) > 0
        assert each.host_bytes == sum(term.bytes for term in each.host) > 0
        assert all(term.why for term in (*each.card, *each.host))
        names = [term.name for term in each.card]
        assert len(names) == len(set(names))
    assert found.card_bytes == max(each.card_bytes for each in found.phases)
    assert found.host_bytes == max(each.host_bytes for each in found.phases)
    assert 0 < found.worker_bytes < found.card_bytes


@pytest.mark.parametrize(
    ("model", "strategy", "where", "values", "gib"),
    [
        # PEFT's documentation, two 80 GB cards, rank 8, sequence 2048, batch 2: 36.6 GB a card.
        ("Llama-2-70b-hf", Zero3(), "2x A100 80 GB", {"batch": 2, "rank": 8}, 36.6e9 / GIB),
        # AnswerDotAI/fsdp_qlora, benchmarks_03_2024.md: FSDP, which shares out as ZeRO-3 does, with offloading.
        ("Llama-2-70b-hf", OFFLOAD, "2x RTX 4090", {"batch": 2, "rank": 64}, 14.92),
        # The same, without sharing out.
        ("Llama-2-7b-hf", Ddp(), "2x RTX 4090", {"batch": 8, "rank": 64}, 20.94),
    ],
)
def test_published_measurements(model: str, strategy: Concrete, where: str, values: dict[str, int], gib: float) -> None:
    """Within 15 %: those runs had other trainers, which kept all logits."""
    found = need(
        f"meta-llama/{model}",
        strategy,
        where,
        data__max_length=2048,
        training__batch_size_per_device=values["batch"],
        lora__rank=values["rank"],
        serving__max_rank=64,
    )
    assert phase(found, "training").card_bytes / GIB == pytest.approx(gib, rel=0.15)


def test_more_cards_never_raise_a_share() -> None:
    for name in ("NF4 weights", "embeddings, head", "AdamW", "adapter"):
        sizes = [term(phase(need(LLAMA_8B, Zero3(), f"{n}x H100"), "training"), name) for n in (1, 2, 4, 8)]
        assert all(later <= earlier for earlier, later in pairwise(sizes)), (name, sizes)
    peaks = [phase(need(SEVENTY, Zero3(), f"{n}x H100"), "training").card_bytes for n in (2, 4, 8)]
    assert peaks[0] > peaks[1] > peaks[2]
    maps = [need(SEVENTY, DeviceMap(), f"{n}x H100").card_bytes for n in (2, 4, 8)]
    assert maps[0] > maps[1] > maps[2]


def test_scales_stay_whole_under_zero3() -> None:
    two, eight = (phase(need(SEVENTY, Zero3(), f"{n}x H100"), "training") for n in (2, 8))
    assert term(two, "scales") == term(eight, "scales") > 1e9


def test_zero3_loads_the_whole_model_in_each_worker() -> None:
    """In main memory, so that no card need hold it (https://github.com/huggingface/peft/issues/1844)."""
    loading = phase(need(SEVENTY, Zero3(), "2x RTX 4090"), "loading")
    assert term(loading, "whole model, each worker") / 1e9 == pytest.approx(2 * 39.5, abs=0.1)
    assert loading.card_bytes < 24 * GIB


def test_offloading_moves_terms_to_the_host() -> None:
    on_card, off = (phase(need(SEVENTY, each, "2x RTX 4090"), "training") for each in (Zero3(), OFFLOAD))
    assert term(off, "offloaded weights") == pytest.approx(2 * term(on_card, "NF4 weights"), rel=0.15)
    assert term(off, "NF4 weights") == term(off, "AdamW") == 0
    assert off.card_bytes + 15 * GIB < on_card.card_bytes


def test_zero2_shares_the_optimizer() -> None:
    ddp, zero2 = (phase(need(SEVENTY, each, "8x H100"), "training") for each in (Ddp(), Zero2()))
    assert term(zero2, "AdamW") * 4 < term(ddp, "AdamW")
    assert term(zero2, "NF4 weights") == term(ddp, "NF4 weights")


def test_device_map_lays_layers_as_the_run_does() -> None:
    """The two halves of 70B: 40 layers and the embeddings, 40 layers and the head."""
    model, where = shape(SEVENTY), site("2x RTX 4090")
    weights = weights_of(model, spec(SEVENTY), 2)
    parts = parts_of(model, weights, where, reserve_gib=2)
    assert parts == [Part(40, 80, 1, 2), Part(40, 80, 1, 2)]
    assert fullest_part(model, weights, where, 2).weights(weights) / 1e9 == pytest.approx(39.5 / 2, abs=0.05)
    assert parts_of(model, weights, site("1x RTX 4090"), 2) is None


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"data__max_length": 512}, {"data__max_length": 1024}),
        ({"training__batch_size_per_device": 2}, {"training__batch_size_per_device": 4}),
        ({"lora__rank": 8}, {"lora__rank": 16}),
        ({"training__gradient_checkpointing": True}, {"training__gradient_checkpointing": False}),
        ({"method": {"kind": "sft"}}, {"method": {"kind": "dpo"}}),
        ({"method": {"kind": "dpo"}}, {"method": {"kind": "orpo"}}),
        ({"model__quantization": {"kind": "nf4"}}, {"model__quantization": {"kind": "none"}}),
        ({"model__attention": "sdpa"}, {"model__attention": "eager"}),
        ({"model__quantization": {"kind": "nf4"}}, {"model__quantization": {"kind": "nf4", "double": False}}),
    ],
)
def test_what_takes_more_is_predicted_to(less: dict[str, Any], more: dict[str, Any]) -> None:
    small, large = (phase(need(LLAMA_8B, Ddp(), "1x H100", **values), "training") for values in (less, more))
    assert small.card_bytes < large.card_bytes


def test_evaluation_holds_plain_weights_unless_told() -> None:
    plain, quantised = (
        phase(need(SEVENTY, DeviceMap(), "2x RTX 4090", evaluation__quantised=value), "evaluating")
        for value in (False, True)
    )
    assert term(plain, "base weights") / 1e9 == pytest.approx(70.55, rel=0.02)  # half of 141 GB on each of two cards
    assert term(quantised, "base weights") / 1e9 == pytest.approx(19.76, abs=0.1)


def test_on_cpu_all_is_on_the_host_for_each_worker() -> None:
    name = "HuggingFaceTB/SmolLM2-135M"
    one, two = (
        memory_of(shape(name), each, Ddp(), this_site(each.hardware, machine()))
        for each in (spec(name, hardware={"workers": n}) for n in (1, 2))
    )
    assert one.card_bytes == two.card_bytes == 0
    assert term(phase(two, "training"), "process") == 2 * term(phase(one, "training"), "process")
    assert one.worker_bytes < one.host_bytes


@pytest.mark.parametrize(("length", "kernels"), [(128, 8 * 25), (130, 9 * 25), (8192, 1024)])
def test_a_cpu_that_multiplies_bfloat16_keeps_compiled_kernels(length: int, kernels: int) -> None:
    """As many as there are lengths of a batch, up to oneDNN's cache; in float32 torch multiplies without oneDNN."""
    name = "HuggingFaceTB/SmolLM2-135M"
    small = spec(name, data__max_length=length)

    def kept(bfloat16: bool) -> list[int]:
        need = memory_of(shape(name), small, Ddp(), this_site(small.hardware, machine(bfloat16=bfloat16)))
        return [term.bytes for term in phase(need, "training").host if term.name == "kernels"]

    assert kept(bfloat16=False) == []
    assert kept(bfloat16=True) == [pytest.approx(kernels * 0.9 * 2**20, abs=1)]


def test_a_reference_adapter_is_counted() -> None:
    fresh, continued = (
        phase(need(LLAMA_8B, Ddp(), "1x H100", method={"kind": "dpo"}, lora=lora), "training")
        for lora in ({}, {"start_from": "smart-home"})
    )
    assert term(fresh, "reference adapter") == 0
    assert term(continued, "reference adapter") == term(continued, "adapter")


def test_no_holdout_loss_no_phase() -> None:
    found = need(LLAMA_8B, Ddp(), "1x H100", training__holdout_loss_rows=0)
    assert [each.name for each in found.phases] == ["loading", "training", "evaluating"]
