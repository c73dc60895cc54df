"""`guitarfish doctor`: what this machine has, what each lack rules out, and what cannot run here."""

from __future__ import annotations

from guitarfish.options import DEFAULT_STORE, AsJson, StoreUri


def doctor(store: StoreUri = DEFAULT_STORE, json: AsJson = False) -> None:
    """Say what this machine has: GPUs, memory, instruction sets, disk, versions, access to the store.

    And what of a run file cannot run here, and why: strategies, features, models by the memory they need.
    Nothing is installed or changed; a probe file is written into the store. Exit code 0 whatever is found.
    """
    from guitarfish.capabilities import abilities
    from guitarfish.diagnosis import diagnose, look
    from guitarfish.rendering import note, print_facts, print_json, print_table, say

    note("looking at this machine ...")
    machine = look(store)
    lacks = diagnose(machine)
    able = abilities(machine)
    if json:
        facts = {"machine": vars(machine), "lacks": [vars(lack) for lack in lacks]}
        print_json({**facts, "abilities": [vars(ability) for ability in able]})
        return
    print_table(["what", "found"], _rows(machine))
    say("")
    print_table(["a run file may ask for", "here", "because"], [(each.what, each.here, each.why) for each in able])
    say("")
    if not lacks:
        say("Nothing is lacking: this machine can train and serve.")
    for lack in lacks:
        print_facts({"lacks": lack.what, "  so": lack.rules_out, "  fix": lack.fix})


def _rows(machine: object) -> list[tuple[str, str]]:
    from guitarfish.diagnosis import Machine
    from guitarfish.rendering import size

    assert isinstance(machine, Machine)
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
