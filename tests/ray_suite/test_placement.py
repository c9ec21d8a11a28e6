"""Where Ray puts cells: each on devices of its own, seen from inside the notebook."""

from collections import Counter
from itertools import pairwise

from clusters import is_alive, kill, until


def test_each_cell_sees_the_devices_it_was_given_and_a_failure_stays_alone(sweeps):
    process = sweeps.start("mixed")
    notes = {note["label"]: note for note in sweeps.begun(6)}
    shown = sweeps.run("--preset", "mixed", "--status").stdout
    sweeps.go()
    said = sweeps.end(process)

    assert process.returncode == 1, said
    devices = {label: note["devices"].split(",") for label, note in notes.items() if note["devices"]}
    assert {label: len(ids) for label, ids in devices.items()} == {
        "101-on-1": 1,
        "102-on-1": 1,
        "101-on-2": 2,
        "101-on-4": 4,
    }
    assert notes["101-on-0"]["devices"] == notes["13-on-0"]["devices"] == ""
    given = Counter((notes[label]["machine"], device) for label, ids in devices.items() for device in ids)
    assert len(given) == 8  # all four ran at the same time on two machines of four
    assert set(given.values()) == {1}
    assert {note["secret"] for note in notes.values()} == {None}

    assert set(sweeps.rows()) == {*devices, "101-on-0"}
    (line,) = [line for line in said.splitlines() if " 13-on-0 after" in line]
    assert "ZeroDivisionError: unlucky" in line
    assert f"{notes['13-on-0']['folder']}/executed.ipynb" in line
    assert "1 of 6 runs failed. The same command tries them again: python -m lib.sweep 1a3_scaling" in said

    four = notes["101-on-4"]
    (line,) = [line for line in shown.splitlines() if line.startswith("101-on-4 ")]
    assert f"GPU {four['devices']} (process {four['worker']})" in line
    assert " running" in shown.splitlines()[-1]


def test_halves_share_a_device_and_a_cell_whose_worker_dies_gets_one_more_chance(sweeps):
    process = sweeps.start("halves")
    first = sweeps.begun(2)
    assert first[0]["devices"] == first[1]["devices"] in {"0", "1", "2", "3"}
    assert first[0]["machine"] == first[1]["machine"]
    for note in first:
        kill(note["worker"])
    unlucky = next(note for note in sweeps.begun(4)[2:] if note["label"] == "102")
    kill(unlucky["worker"])
    sweeps.go()
    said = sweeps.end(process)

    assert process.returncode == 1
    assert said.count("is tried once more") == 2
    rows = sweeps.rows()
    assert set(rows) == {"101"}
    assert rows["101"]["folder"] not in {note["folder"] for note in first}
    assert len(sweeps.folders()) == 4
    assert "1 of 2 runs failed" in said
    until(lambda: not any(is_alive(note["kernel"]) for note in sweeps.notes()), "all kernels end")


def test_a_cell_whose_machine_is_gone_is_run_on_another(sweeps, machines):
    lost = machines.add(5)
    process = sweeps.start("five")
    (first,) = sweeps.begun(1)
    kept = machines.add(5)
    machines.cluster.remove_node(lost)
    sweeps.go()
    said = sweeps.end(process)
    machines.cluster.remove_node(kept)

    assert process.returncode == 0, said
    assert "is tried once more" in said
    assert sweeps.rows()["101"]["machine"] != first["machine"]
    until(lambda: not is_alive(first["kernel"]), "the first kernel ends")


def test_cells_that_measure_time_have_a_machine_each(sweeps):
    process = sweeps.start("timed")
    sweeps.begun(2)
    assert " 2 running" in f" {sweeps.run('--preset', 'timed', '--status').stdout.splitlines()[-1]}"
    sweeps.go()
    said = sweeps.end(process)

    assert process.returncode == 0, said
    spans = sorted((row["machine"], row["from"], row["to"]) for row in sweeps.rows().values())
    assert len(spans) == 3
    for (machine, _, to), (other, later, _) in pairwise(spans):
        assert machine != other or to <= later
    first, second = sorted(spans, key=lambda span: span[1])[:2]
    assert first[0] != second[0]
    assert second[1] < first[2]
