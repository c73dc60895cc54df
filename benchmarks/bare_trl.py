"""What one would write without Guitarfish: QLoRA with transformers, peft and TRL, in one process.

    python benchmarks/bare_trl.py settings.json result.json

benchmarks/training_overhead.py writes the settings and reads the result.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, TrainerCallback
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    """Records when training began, and how long each step took."""

    def __init__(self) -> None:
        self.start_up_seconds = self.at = 0.0
        self.step_seconds: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.start_up_seconds = time.time() - psutil.Process().create_time()
        self.at = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        self.step_seconds.append(now - self.at)
        self.at = now


def main() -> None:
    """Train, and write the measurements."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    dtype = getattr(torch, settings["dtype"])
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    model = AutoModelForCausalLM.from_pretrained(settings["model"], quantization_config=nf4, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(settings["model"])
    clock = Clock()
    config = SFTConfig(output_dir=settings["folder"], save_strategy="no", report_to="none", **settings["arguments"])
    trainer = SFTTrainer(
        model=model,
        args=config,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(settings["train"]),
        eval_dataset=Dataset.from_list(settings["holdout"]),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **settings["lora"]),
        callbacks=[clock],
    )
    trainer.train()
    loss = trainer.evaluate()["eval_loss"]
    trainer.save_model(settings["folder"])
    found = {
        "start_up_seconds": clock.start_up_seconds,
        "step_seconds": clock.step_seconds,
        "holdout_loss": loss,
        "worker_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    Path(sys.argv[2]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
