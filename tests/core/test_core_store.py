"""A stage is finished and whole, or not there; a killed run continues; a damaged stage is never used."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from uphold.core.errors import StoreError
from uphold.core.files import read_json
from uphold.core.store import RunStore, stage_key


def write_hello(work):
    (work / "sub").mkdir()
    (work / "sub" / "x.txt").write_text("hello")
    return {"n": 3, "share": 0.5}


def must_not_run(work):
    raise AssertionError("a finished stage was made again")


def test_a_stage_is_made_once_and_then_reused(tmp_path):
    with RunStore.open(tmp_path / "run") as store:
        made = store.stage("label", {"seed": 7}, write_hello)
        again = store.stage("label", {"seed": 7}, must_not_run)
    assert (made.reused, again.reused) == (False, True)
    assert made.summary == again.summary == {"n": 3, "share": 0.5}
    assert made.path == again.path == tmp_path / "run" / "stages" / f"label-{made.key[:12]}"
    assert (again.path / "sub" / "x.txt").read_text() == "hello"
    assert list((tmp_path / "run" / "work").iterdir()) == []


def test_reuse_holds_across_openings_of_the_folder(tmp_path):
    with RunStore.open(tmp_path) as store:
        store.stage("label", {}, write_hello)
    with RunStore.open(tmp_path) as store:
        assert store.stage("label", {}, must_not_run).reused


def test_the_summary_is_the_same_value_whether_made_or_reused(tmp_path):
    with RunStore.open(tmp_path) as store:
        made = store.stage("s", {}, lambda work: {"pair": (1, 2), 3: "key"})
        again = store.stage("s", {}, must_not_run)
    assert made.summary == again.summary == {"pair": [1, 2], "3": "key"}


@pytest.mark.parametrize(
    ("name", "inputs", "version"), [("other", {"a": 1}, 1), ("label", {"a": 2}, 1), ("label", {"a": 1}, 2)]
)
def test_name_inputs_and_version_each_make_another_stage(name, inputs, version):
    assert stage_key(name, inputs, version) != stage_key("label", {"a": 1}, 1)


def test_the_order_of_inputs_does_not_matter():
    assert stage_key("s", {"a": 1, "b": 2}) == stage_key("s", {"b": 2, "a": 1})


def test_only_what_depends_on_a_changed_input_is_made_again(tmp_path):
    """Two stages, the second fed by the key of the first; a third that stands alone."""

    def loop(store, clause):
        first = store.stage("critique", {"clause": clause}, lambda work: clause)
        second = store.stage("train", {"critique": first.key}, lambda work: None)
        alone = store.stage("attack", {}, lambda work: None)
        return [first.reused, second.reused, alone.reused]

    with RunStore.open(tmp_path) as store:
        assert loop(store, "never") == [False, False, False]
        assert loop(store, "never") == [True, True, True]
        assert loop(store, "may") == [False, False, True]
        assert loop(store, "never") == [True, True, True], "the old stages are still there"


def test_a_stage_that_raises_keeps_its_work_and_continues_in_it(tmp_path):
    def make(work):
        steps = work / "steps.txt"
        done = steps.read_text() if steps.exists() else ""
        steps.write_text(done + "step\n")
        if not done:
            raise RuntimeError("interrupted")
        return steps.read_text().count("step")

    with RunStore.open(tmp_path) as store:
        with pytest.raises(RuntimeError, match="interrupted"):
            store.stage("s", {}, make)
        assert list(store.stages()) == []
        assert store.stage("s", {}, make).summary == 2


KILLED = """
import os, signal, sys
from pathlib import Path
from uphold.core.store import RunStore

def make(work):
    log = work / "log.txt"
    with open(log, "a") as file:
        for i in range(len(log.read_text().split()), 5):
            file.write(f"{i} "); file.flush()
            if i == int(sys.argv[2]):
                (work / ".half.json.123.tmp").write_text("torn")
                os.kill(os.getpid(), signal.SIGKILL)
    return log.read_text()

with RunStore.open(sys.argv[1]) as store:
    result = store.stage("s", {}, make)
    print(result.summary, sorted(path.name for path in result.path.iterdir()))
"""


@pytest.mark.parametrize("at", [0, 2, 4])
def test_a_run_killed_in_a_stage_continues_and_ends_the_same(tmp_path, at):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "run")]
    killed = subprocess.run([*command, str(at)], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list((tmp_path / "run" / "stages").iterdir()) == []
    after = subprocess.run([*command, "-1"], capture_output=True, text=True, check=True)
    assert after.stdout == "0 1 2 3 4  ['log.txt', 'stage.json']\n"


HOLDER = """
import sys, time
from uphold.core.store import RunStore
with RunStore.open(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of tmp_path/run."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_two_runs_in_one_folder_the_second_is_told_who_holds_it(tmp_path, holder):
    with pytest.raises(StoreError) as caught:
        RunStore.open(tmp_path / "run")
    assert str(caught.value) == (
        f"{tmp_path / 'run'}: process {holder.pid} is working in this run folder. "
        "Wait for it, stop it, or choose another folder."
    )


def test_the_lock_goes_with_a_killed_process(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    deadline = time.monotonic() + 5
    while True:
        try:
            RunStore.open(tmp_path / "run").close()
            return
        except StoreError:
            assert time.monotonic() < deadline, "the lock outlived its process"


def test_the_lock_is_released_on_leaving_and_closing_twice_is_harmless(tmp_path):
    store = RunStore.open(tmp_path)
    store.close()
    store.close()
    with RunStore.open(tmp_path):
        pass


def finished(tmp_path) -> Path:
    with RunStore.open(tmp_path) as store:
        return store.stage("label", {}, write_hello).path


def damage_by_editing(path):
    (path / "sub" / "x.txt").write_text("jello")
    return f"{path / 'sub' / 'x.txt'}: changed since the stage was finished."


def damage_by_removing(path):
    (path / "sub" / "x.txt").unlink()
    return f"{path / 'sub' / 'x.txt'}: missing or unreadable, though the stage was finished."


def damage_by_adding(path):
    (path / "sub" / "y.txt").write_text("extra")
    return f"{path / 'sub' / 'y.txt'}: was not there when the stage was finished."


def damage_the_manifest(path):
    (path / "stage.json").write_text("{")
    return f"{path / 'stage.json'}: the stage's record is missing or damaged."


def empty_the_manifest(path):
    (path / "stage.json").write_text('{"files": [1, 2], "key": null}')
    return f"{path / 'stage.json'}: the stage's record is missing or damaged."


def swap_the_manifest(path):
    manifest = read_json(path / "stage.json")
    (path / "stage.json").write_text(json.dumps({**manifest, "key": "0" * 64}))
    return f"{path / 'stage.json'}: belongs to another stage (key 000000000000)."


@pytest.mark.parametrize(
    "damage",
    [
        damage_by_editing,
        damage_by_removing,
        damage_by_adding,
        damage_the_manifest,
        empty_the_manifest,
        swap_the_manifest,
    ],
)
def test_a_damaged_stage_is_refused_and_says_how_to_mend_it(tmp_path, damage):
    path = finished(tmp_path)
    said = damage(path)
    with RunStore.open(tmp_path) as store, pytest.raises(StoreError) as caught:
        store.stage("label", {}, must_not_run)
    assert str(caught.value) == f"{said} Delete {path} and run the same command again: only this stage is redone."


def test_deleting_a_damaged_stage_mends_it(tmp_path):
    import shutil

    path = finished(tmp_path)
    damage_by_editing(path)
    shutil.rmtree(path)
    assert finished(tmp_path) == path


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(StoreError) as caught:
        RunStore.open(tmp_path)
    assert str(caught.value) == f"{tmp_path}: holds files that are not a run. Choose a new or empty folder."
    assert os.listdir(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("[]", "{folder}: is not a run folder of Uphold. Choose another folder."),
        ('{"format": "uphold-run", "version": 99}', "{folder}: written by another version of Uphold. "),
        ("{", "{folder}/run.json: damaged. Delete this file and run the same command again."),
    ],
)
def test_a_foreign_or_damaged_mark_is_refused(tmp_path, mark, said):
    (tmp_path / "run.json").write_text(mark)
    with pytest.raises(StoreError) as caught:
        RunStore.open(tmp_path)
    assert str(caught.value).startswith(said.format(folder=tmp_path))


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(StoreError, match="run: cannot open the run folder: File exists"):
        RunStore.open(tmp_path / "run")


def test_a_read_only_folder_is_named_with_its_mend(read_only_folder):
    with pytest.raises(StoreError, match="cannot open the run folder: .* or choose another folder"):
        RunStore.open(read_only_folder / "run")


def test_a_disk_that_fills_up_in_a_stage_keeps_what_was_finished(tmp_path):
    """The system refuses files past 2,000 bytes, as a full disk would; then the disk is large again."""
    program = """
import resource, sys
from uphold.core.errors import StoreError
from uphold.core.store import RunStore
with RunStore.open("run") as store:
    store.stage("small", {}, lambda work: (work / "a.txt").write_text("a"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    make = lambda work: (work / "big.bin").write_bytes(bytes(9000))
    try:
        store.stage("big", {}, make)
    except StoreError as error:
        print(str(error).partition(":")[2])
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    print(store.stage("small", {}, None).reused, store.stage("big", {}, make).summary)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == (
        " cannot finish stage 'big': File too large. The file would be larger than the system allows. "
        "Raise the limit (ulimit -f) or choose another folder.\nTrue 9000\n"
    )


def test_errors_that_are_not_the_disks_pass_through(tmp_path):
    def refuse(work):
        raise ConnectionRefusedError(111, "Connection refused")

    with RunStore.open(tmp_path) as store, pytest.raises(ConnectionRefusedError):
        store.stage("s", {}, refuse)


def test_stages_are_listed_oldest_first_and_leftovers_can_be_pruned(tmp_path):
    def fail(work):
        (work / "half.txt").write_text("half")
        raise RuntimeError("stop")

    with RunStore.open(tmp_path) as store:
        paths = [store.stage(name, {}, lambda work: None).path for name in ("zebra", "ant", "mole")]
        with pytest.raises(RuntimeError):
            store.stage("dead", {}, fail)
        store.prune_work()
        assert list(store.stages()) == paths
        assert list((tmp_path / "work").iterdir()) == []


def test_the_manifest_says_what_went_in_and_what_came_out(tmp_path):
    with RunStore.open(tmp_path) as store:
        result = store.stage("label", {"seed": 7}, write_hello, version=2)
    manifest = read_json(result.path / "stage.json")
    # printf hello | sha256sum
    expected = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert manifest.pop("seconds") >= 0
    assert manifest == {
        "stage": "label",
        "key": result.key,
        "version": 2,
        "inputs": {"seed": 7},
        "summary": {"n": 3, "share": 0.5},
        "files": {"sub/x.txt": expected},
    }
