"""mirror.sh with a docker and a helm that only write down what they are asked."""

import json
import os
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from safescale import __version__

RENDERED = """
spec:
  template:
    spec:
      initContainers:
        - image: "safescale/retrieval:0.1.0"
      containers:
        - name: inference
          image: safescale/inference:0.1.0
          imagePullPolicy: IfNotPresent
        - name: server
          image: ghcr.io/huggingface/text-generation-inference:3.3.6
"""

HELM = """#!/bin/bash
printf '%s\\n' "$*" >> "$STATE/helm.log"
[ -z "${HELM_FAILS:-}" ] || { echo "Error: values don't meet the schema" >&2; exit 1; }
cat "$STATE/rendered.yaml"
"""

# Images are files of the folder `images`; an archive ends with the name of its image.
DOCKER = """#!/bin/bash
set -eu
printf '%s\\n' "$*" >> "$STATE/docker.log"
file() { echo "$STATE/images/$(tr '/' '+' <<< "$1")"; }
case $1 in
  info) [ -z "${DOCKER_FAILS:-}" ] ;;
  image) cat "$(file "${@: -1}")" ;;
  pull) [ -z "${PULL_FAILS:-}" ] && touch "$(file "$3")" ;;
  save) cp "$STATE/image.tar" "$3"; printf '%s' "$4" >> "$3" ;;
  load) touch "$(file "$(tail -c +"$(($(stat -c %s "$STATE/image.tar") + 1))" "$4")")" ;;
  tag) cp "$(file "$2")" "$(file "$3")" ;;
  push) [ -z "${PUSH_FAILS:-}" ] && [ -e "$(file "$3")" ] ;;
  *) exit 9 ;;
esac
"""


@dataclass
class Mirror:
    """Runs the script with tools of its own."""

    script: Path
    state: Path

    def __call__(self, *arguments: object, **variables: str) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SAFESCALE_", "MIRROR_"))}
        path = f"{self.state / 'bin'}{os.pathsep}{os.environ['PATH']}"
        environment = {**kept, "PATH": path, "STATE": str(self.state), **variables}
        command = [str(self.script), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    def asked(self, tool: str, verb: str = "") -> list[str]:
        log = self.state / f"{tool}.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if line.startswith(verb)]

    def file(self, image: str) -> Path:
        """What stands for an image in the engine."""
        return self.state / "images" / image.replace("/", "+")


OWN = ("safescale/inference:0.1.0", "safescale/retrieval:0.1.0")
TGI = "ghcr.io/huggingface/text-generation-inference:3.3.6"


@pytest.fixture
def mirror(root: Path, tmp_path: Path) -> Mirror:
    state = tmp_path / "state"
    for name in ("bin", "images"):
        (state / name).mkdir(parents=True)
    for name, text in (("helm", HELM), ("docker", DOCKER)):
        tool = state / "bin" / name
        tool.write_text(text)
        tool.chmod(0o755)
    (state / "rendered.yaml").write_text(RENDERED)
    (state / "config").write_text("{}")
    (state / "manifest").write_text(json.dumps([{"Config": "config.json", "Layers": []}]))
    with tarfile.open(state / "image.tar", "w") as archive:
        archive.add(state / "config", "config.json")
        archive.add(state / "manifest", "manifest.json")
    made = Mirror(root / "deploy/airgap/mirror.sh", state)
    for image in (*OWN, TGI):
        made.file(image).touch()
    return made


@pytest.fixture
def saved(mirror: Mirror, tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    done = mirror("save", folder, MIRROR_CHART_ONLY="1")
    assert done.returncode == 0, done.stderr
    return folder


def test_it_can_be_read(root: Path) -> None:
    assert subprocess.run(["bash", "-n", root / "deploy/airgap/mirror.sh"], check=False).returncode == 0


def test_list_has_the_chart_and_the_trial_each_once(mirror: Mirror, tmp_path: Path) -> None:
    values = tmp_path / "ward.yaml"
    values.write_text("mode: grid\n")
    done = mirror("list", values)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines == sorted(set(lines))
    assert set(lines) > {*OWN, TGI, f"safescale/model-server:{__version__}"}
    assert [line.rsplit(":", 1)[0] for line in lines if "kafka" in line] == ["apache/kafka"]
    assert f"--values {values}" in mirror.asked("helm")[0]


def test_list_of_the_chart_alone(mirror: Mirror) -> None:
    assert mirror("list", MIRROR_CHART_ONLY="1").stdout.splitlines() == sorted([*OWN, TGI])


def test_images_that_build_makes_take_the_place_of_published_ones(mirror: Mirror) -> None:
    names = {
        "SAFESCALE_KAFKA_IMAGE": "localhost/kafka:4.4.0",
        "SAFESCALE_ELASTICSEARCH_IMAGE": "localhost/elasticsearch:9.5.3",
    }
    lines = mirror("list", **names).stdout.splitlines()
    assert [line for line in lines if "kafka" in line or "elastic" in line] == sorted(names.values())


@pytest.mark.parametrize(("image", "words"), [("a/b", "a/b has no tag"), ("a/b@sha256:00", "named by its digest")])
def test_images_that_cannot_be_mirrored_are_named(mirror: Mirror, image: str, words: str) -> None:
    (mirror.state / "rendered.yaml").write_text(f"image: {image}\n")
    done = mirror("list")
    assert done.returncode == 2
    assert words in done.stderr


def test_a_chart_that_does_not_render_ends_it(mirror: Mirror, tmp_path: Path) -> None:
    done = mirror("save", tmp_path / "out", HELM_FAILS="1")
    assert done.returncode == 2
    assert "cannot be rendered" in done.stderr
    assert "schema" in done.stderr
    assert not (tmp_path / "out").exists()


def test_values_that_cannot_be_read_are_named(mirror: Mirror, tmp_path: Path) -> None:
    done = mirror("list", tmp_path / "missing.yaml")
    assert done.returncode == 2
    assert f"{tmp_path / 'missing.yaml'} cannot be read" in done.stderr


def test_save_writes_images_bills_and_checksums(mirror: Mirror, saved: Path) -> None:
    names = sorted(path.name for path in saved.iterdir())
    archives = [name for name in names if name.endswith(".tar")]
    assert len(archives) == 3
    assert set(names) == {"SHA256SUMS", "images.txt", *archives, *(f"{name[:-4]}.cdx.json" for name in archives)}
    bill = json.loads((saved / "safescale_inference_0.1.0.cdx.json").read_text())
    assert bill["metadata"]["component"]["name"] == "safescale/inference"
    assert f" {TGI}\n" in (saved / "images.txt").read_text()
    assert mirror.asked("docker", "pull") == []
    assert mirror("verify", saved).returncode == 0


def test_syft_makes_the_bill_where_it_is_there(mirror: Mirror, tmp_path: Path) -> None:
    syft = mirror.state / "bin/syft"
    syft.write_text('#!/bin/bash\necho "{\\"by\\": \\"$2\\"}" > "${5#*=}"\n')
    syft.chmod(0o755)
    done = mirror("save", tmp_path / "out", MIRROR_CHART_ONLY="1")
    assert done.returncode == 0, done.stderr
    bill = json.loads((tmp_path / "out/safescale_inference_0.1.0.cdx.json").read_text())
    assert bill["by"].startswith("docker-archive:")


def test_an_image_that_is_not_here_is_pulled(mirror: Mirror, tmp_path: Path) -> None:
    mirror.file(TGI).unlink()
    assert mirror("save", tmp_path / "out", MIRROR_CHART_ONLY="1").returncode == 0
    assert mirror.asked("docker", "pull") == [f"pull --quiet {TGI}"]


def test_an_image_that_cannot_be_had_is_named_and_no_folder_is_whole(mirror: Mirror, tmp_path: Path) -> None:
    mirror.file(TGI).unlink()
    done = mirror("save", tmp_path / "out", MIRROR_CHART_ONLY="1", PULL_FAILS="1")
    assert done.returncode == 2
    assert f"{TGI} is neither here nor can be pulled" in done.stderr
    assert mirror("verify", tmp_path / "out").returncode == 2


def test_a_folder_that_is_not_empty_is_left_alone(mirror: Mirror, saved: Path) -> None:
    before = (saved / "SHA256SUMS").read_bytes()
    done = mirror("save", saved)
    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert (saved / "SHA256SUMS").read_bytes() == before


def test_a_changed_a_missing_and_a_foreign_file_are_found(mirror: Mirror, saved: Path) -> None:
    archive = saved / "safescale_inference_0.1.0.tar"
    content = archive.read_bytes()
    archive.write_bytes(content[:-1] + b"!")
    assert "safescale_inference_0.1.0.tar" in mirror("verify", saved).stdout
    assert mirror("verify", saved).returncode == 2
    archive.unlink()
    assert mirror("verify", saved).returncode == 2
    archive.write_bytes(content)
    (saved / "more.tar").write_bytes(b"")
    done = mirror("verify", saved)
    assert done.returncode == 2
    assert "more.tar" in done.stderr


def test_push_names_images_below_the_registry(mirror: Mirror, saved: Path) -> None:
    mirror.file(TGI).unlink()
    done = mirror("push", saved, "registry.example:5000/mirror/")
    assert done.returncode == 0, done.stderr
    expected = [
        "huggingface/text-generation-inference:3.3.6", "safescale/inference:0.1.0", "safescale/retrieval:0.1.0",
    ]  # fmt: skip
    assert sorted(line.removeprefix("push --quiet ") for line in mirror.asked("docker", "push")) == [
        f"registry.example:5000/mirror/{name}" for name in expected
    ]


def test_nothing_of_a_damaged_folder_is_pushed(mirror: Mirror, saved: Path) -> None:
    (saved / "images.txt").write_text("")
    assert mirror("push", saved, "registry.example").returncode == 2
    assert mirror.asked("docker", "load") == []


def test_a_push_that_is_refused_is_named(mirror: Mirror, saved: Path) -> None:
    done = mirror("push", saved, "registry.example", PUSH_FAILS="1")
    assert done.returncode == 2
    assert "cannot be pushed; docker login registry.example?" in done.stderr


@pytest.mark.parametrize("registry", ["https://registry.example", "registry.example/Path", "", "-x", "a b"])
def test_what_is_no_registry_is_refused(mirror: Mirror, saved: Path, registry: str) -> None:
    done = mirror("push", saved, registry)
    assert done.returncode == 2
    assert "is no name" in done.stderr


def test_without_an_engine_it_says_so(mirror: Mirror, tmp_path: Path) -> None:
    done = mirror("save", tmp_path / "out", DOCKER_FAILS="1")
    assert done.returncode == 2
    assert "no Docker engine answers" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "expected list, save, verify or push"),
        (("pull",), "expected list, save, verify or push"),
        (("save",), "expected save DIR"),
        (("verify",), "expected verify DIR"),
        (("push", "x"), "expected push DIR REGISTRY"),
        (("verify", "missing"), "missing/SHA256SUMS is not there"),
    ],
)
def test_mistakes_are_named(mirror: Mirror, arguments: tuple[str, ...], words: str) -> None:
    done = mirror(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
