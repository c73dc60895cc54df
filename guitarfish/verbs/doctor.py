"""`guitarfish doctor`: what this machine has, what is missing, and what a run file cannot ask of it."""

from __future__ import annotations

from guitarfish.actions.diagnosis import Machine, abilities, look, what_is_missing
from guitarfish.show.rendering import note, print_json, print_table, say, size
from guitarfish.verbs.options import DEFAULT_STORE, AsJson, StoreUri


def doctor(store: StoreUri = DEFAULT_STORE, json: AsJson = False) -> None:
    """Show what this machine has: GPUs, memory, instruction sets, disk, versions, access to the store.

    And what a run file can ask for here: strategies, features, models by the memory they need. Nothing is installed or
    changed; a probe file is written to the store. The exit code is 0 whatever is found.
    """
    note("looking at this machine ...")
    machine = look(store)
    missing, able = what_is_missing(machine), abilities(machine)
    if json:
        print_json({"machine": machine, "missing": missing, "abilities": able})
        return
    print_table(["what", "found"], _rows(machine))
    say("")
    print_table(["a run file may ask for", "here", "because"], [(each.what, each.here, each.why) for each in able])
    say("")
    if missing:
        print_table(["missing", "effect", "fix"], [(each.what, each.effect, each.fix) for each in missing])
    else:
        say("Nothing is missing: this machine can train and serve.")


def _rows(machine: Machine) -> list[tuple[str, str]]:
    hardware = machine.hardware
    gpus = [f"{gpu.name}, {size(gpu.memory_bytes)}" for gpu in hardware.gpus]
    versions = [f"{name} {version or '-'}" for name, version in machine.versions.items()]
    return [
        ("GPUs", "\n".join(gpus) or "none"),
        ("CPU", f"{hardware.cores} cores of {hardware.cpu}"),
        ("instructions", ", ".join(hardware.instructions) or "none that matter"),
        ("memory", f"{size(machine.memory_free_bytes)} free of {size(hardware.memory_bytes)}"),
        ("shared memory", size(machine.shared_memory_bytes)),
        ("disk", "\n".join(f"{size(free)} free at {place}" for place, free in machine.disk_free_bytes.items())),
        ("Python", machine.python),
        ("packages", "\n".join(versions)),
        ("C compiler", machine.compiler or "none"),
        ("store", f"{machine.store}: {machine.store_problem or 'reads and writes'}"),
    ]
