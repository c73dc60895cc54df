"""How layers are spread over several cards: a pure decision, with the shape of a 70B model on two 24 GB cards."""

from __future__ import annotations

import pytest

from runspec.errors import HardwareError
from runspec.model import FolderModel, ModelSpec, Nf4, Unquantised
from training.planning.layout import Block, spread
from training.planning.sites import GIB
from training.strategies.device_map import blocks, tied_heads

LAYERS = [Block(f"model.layers.{number}", 0.44 * GIB) for number in range(80)]
SEVENTY = [Block("model.embed_tokens", 1.96 * GIB), *LAYERS, Block("model.norm", 0), Block("lm_head", 1.96 * GIB)]


def loads(cards: dict[str, int], parts: list[Block]) -> dict[int, float]:
    found: dict[int, float] = {}
    for part in parts:
        found[cards[part.name]] = found.get(cards[part.name], 0) + part.bytes
    return found


def test_seventy_billion_parameters_are_halved_over_two_cards() -> None:
    cards = spread(SEVENTY, [22 * GIB, 22 * GIB])
    first, second = (loads(cards, SEVENTY)[card] for card in (0, 1))
    assert abs(first - second) <= 0.5 * GIB
    assert max(first, second) < 20 * GIB


def test_neighbours_stay_together() -> None:
    places = list(spread(SEVENTY, [22 * GIB] * 3).values())
    assert places == sorted(places)


def test_a_smaller_card_gets_less() -> None:
    found = loads(spread(SEVENTY, [30 * GIB, 15 * GIB]), SEVENTY)
    assert found[0] / 30 == pytest.approx(found[1] / 15, rel=0.1)


def test_one_card_takes_all() -> None:
    assert set(spread(SEVENTY, [80 * GIB]).values()) == {0}


def test_a_card_without_room_is_passed_over() -> None:
    assert set(spread(LAYERS, [0, 80 * GIB]).values()) == {1}


def test_what_does_not_fit_is_refused_with_both_sizes() -> None:
    with pytest.raises(HardwareError, match=r"needs 39\.1 GiB, but 2 GPUs have 12\.0 \+ 12\.0 GiB") as caught:
        spread(SEVENTY, [12 * GIB, 12 * GIB])
    assert "reserve_gib" in caught.value.fix


def model(tied: bool):  # type: ignore[no-untyped-def]
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        vocab_size=1000,
        tie_word_embeddings=tied,
    )
    with torch.device("meta"):
        return LlamaForCausalLM(config)


def test_blocks_are_the_modules_of_the_model_in_their_order() -> None:
    spec = ModelSpec(source=FolderModel(path="x"), quantization=Unquantised())
    found = blocks(model(tied=False), spec)
    names = [block.name for block in found]
    assert names[:2] == ["model.embed_tokens", "model.layers.0"]
    assert names[-1] == "lm_head"
    assert found[0].bytes == found[-1].bytes == 64 * 1000 * 2
    linear = 4 * 64 * 64 + 3 * 64 * 128
    assert found[1].bytes == (linear + 2 * 64) * 2


def test_four_bit_layers_take_a_quarter_and_the_scales() -> None:
    spec = ModelSpec(source=FolderModel(path="x"), quantization=Nf4())
    layer = blocks(model(tied=False), spec)[1]
    linear = 4 * 64 * 64 + 3 * 64 * 128
    assert layer.bytes == pytest.approx(linear * 4.127 / 8 + 2 * 64 * 2, rel=1e-3)


def test_a_tied_head_goes_where_the_embeddings_are() -> None:
    spec = ModelSpec(source=FolderModel(path="x"))
    assert tied_heads(model(tied=True)) == ["lm_head"]
    assert "lm_head" not in [block.name for block in blocks(model(tied=True), spec)]
    assert tied_heads(model(tied=False)) == []
