"""A person's mistakes and a machine's faults: a sentence, the right exit code, no traceback."""

import json
import resource
import socket

import pytest

pytestmark = pytest.mark.models


def test_a_wrong_key_is_named_with_its_line_and_the_fields_that_exist(cli) -> None:
    cli.write(
        "spec.yaml", "name: x\nbenchmark: b.jsonl\nmodels: [m]\nconditions: [zero_shot]\nregimes:\n  gredy: true\n"
    )
    done = cli("run", "spec.yaml")
    assert done.returncode == 2
    assert "spec.yaml:6: regimes.gredy = True; expected no such field; fields here are greedy" in done.stderr


def test_every_defect_of_a_spec_is_listed(cli) -> None:
    cli.write("spec.yaml", "name: x\nmodels: []\nconditions: [zero_shot]\nseed: -1\n")
    done = cli("run", "spec.yaml")
    assert done.returncode == 2
    for text in ("benchmark = missing", "spec.yaml:2: models", "spec.yaml:4: seed"):
        assert text in done.stderr


def test_a_spec_that_is_no_yaml(cli) -> None:
    cli.write("spec.yaml", "name: [x\n")
    done = cli("run", "spec.yaml")
    assert done.returncode == 2
    assert "spec.yaml" in done.stderr
    assert "YAML" in done.stderr


def test_a_missing_spec(cli) -> None:
    done = cli("run", "nowhere.yaml")
    assert (done.returncode, done.stderr.strip()) == (2, "Error: nowhere.yaml: no such file")


def test_an_id_file_without_a_folder(cli) -> None:
    done = cli("run", cli.spec(), "--id-file", "nowhere/id")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nowhere/id: there is no folder nowhere" in done.stderr


def test_everything_that_does_not_exist_is_named_at_once(cli) -> None:
    done = cli(
        "run",
        cli.spec(
            models=["gpt-9"],
            conditions=["evidence_claen", "top_5"],
            judge="gpt-8",
            questions={"ids": ["chest-99"]},
        ),
    )
    assert done.returncode == 2, done.stdout + done.stderr
    for text in (
        "models: gpt-9: is not in the catalog; it has",
        "did you mean 'evidence_clean'",
        "corpus: expected a corpus: top_5 need one",
        "judge: gpt-8: is not in the catalog",
        "chest-99",
    ):
        assert text in done.stderr


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"benchmark": "nowhere.jsonl"}, "nowhere.jsonl: no such file"), ({"corpus": "empty.jsonl"}, "empty.jsonl")],
)
def test_files_that_cannot_be_used_are_named(cli, changes, expected) -> None:
    cli.write("empty.jsonl", "")
    done = cli("run", cli.spec(**changes))
    assert done.returncode == 2, done.stdout + done.stderr
    assert expected in done.stderr


def test_a_damaged_benchmark_lists_every_defect(cli) -> None:
    good = {
        "question_id": "q1", "question_text": "t", "options": {"A": "a", "B": "b"}, "correct_answer": "C",
        "subspecialty": "s", "question_type": "q", "labels": {"A": {"high_risk": 2, "unsafe": 0, "contradicts": 0}},
    }  # fmt: skip
    cli.write("bad.jsonl", json.dumps(good) + "\n{not json\n")
    done = cli("run", cli.spec(benchmark="bad.jsonl"))
    assert done.returncode == 2
    assert "bad.jsonl:1" in done.stderr
    assert "bad.jsonl:2" in done.stderr
    assert "correct_answer" in done.stderr


def test_a_file_that_may_not_be_read(cli) -> None:
    (cli.folder / "folder.jsonl").mkdir()
    done = cli("run", cli.spec(benchmark="folder.jsonl"))
    assert done.returncode == 2
    assert "is a directory" in done.stderr


def test_a_port_in_use(cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = cli("serve", "all", "--port", port, "--metrics-port", "0")
        assert done.returncode == 2
        assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
        done = cli("serve", "all", "--port", "0", "--metrics-port", port)
        assert done.returncode == 2
        assert "cannot serve /metrics" in done.stderr


def test_no_server_at_the_address(cli) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    cli.environment["SAFESCALE_SERVER"] = address
    done = cli("runs", "list")
    assert done.returncode == 1
    assert f"no safescale server answers at {address}" in done.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [("SAFESCALE_INSTANCES", "many"), ("SAFESCALE_LOG_LEVEL", "LOUD"), ("SAFESCALE_CALL_TIMEOUT_S", "-1")],
)
def test_a_setting_that_cannot_be_read(cli, name: str, value: str) -> None:
    cli.environment[name] = value
    done = cli("runs", "list")
    assert done.returncode == 2
    assert name in done.stderr
    assert value in done.stderr


def test_an_unknown_run(cli) -> None:
    for arguments in (("report", "nothing-here"), ("export", "latest"), ("runs", "show", "no")):
        done = cli(*arguments)
        assert done.returncode == 2
        assert done.stderr.startswith("Error: ")


def test_a_policy_with_defects(light) -> None:
    light.write("policy.yaml", "name: p\nrequirements:\n  - {metric: acuracy, max: 1, min: 0}\n")
    assert light("run", light.spec(questions={"limit": 1}, conditions=["zero_shot"]), "--no-report").returncode == 0
    done = light("gate", "latest", "--policy", "policy.yaml")
    assert done.returncode == 2
    assert "acuracy" in done.stderr


def test_a_full_disk_ends_the_run_with_a_sentence_and_the_run_can_go_on(light) -> None:
    spec = light.spec(regimes={"greedy": True, "self_consistency": {"samples": 100, "temperature": 0.7}})
    limit = 300_000

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = light("run", spec, "--no-report", preexec_fn=bound)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "could not be read or written" in done.stderr
    again = light("run", spec, "--no-report")
    assert again.returncode == 0, again.stdout + again.stderr


def test_a_prompt_over_the_window_fails_its_cells_alone(cli) -> None:
    question = {
        "question_id": "q1", "question_text": "Which organ?", "options": {"A": "liver", "B": "spleen"},
        "correct_answer": "A", "subspecialty": "s", "question_type": "q", "evidence_clean": "word " * 12_000,
        "labels": {x: {"high_risk": 0, "unsafe": 0, "contradicts": 0} for x in "AB"},
    }  # fmt: skip
    cli.write("long.jsonl", json.dumps(question) + "\n")
    done = cli("run", cli.spec(benchmark="long.jsonl"))
    assert done.returncode == 1
    assert "1 failed: PROMPT_TOO_LONG" in done.stdout
    assert "zero_shot" in done.stdout
    assert "Report: " in done.stdout
