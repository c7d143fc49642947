import re
import subprocess
from pathlib import Path

import pytest

from safescale.runtime.settings import Settings


def _stages(dockerfile: str) -> dict[str, tuple[str, str]]:
    """Base and lines of each stage by its name."""
    parts = re.split(r"^FROM (\S+) AS (\S+)$", dockerfile, flags=re.MULTILINE)
    return {parts[i + 1]: (parts[i], parts[i + 2]) for i in range(1, len(parts), 3)}


def test_each_service_has_a_stage_that_serves_it(dockerfile: str, own_services: tuple[str, ...]) -> None:
    stages = _stages(dockerfile)
    for name in own_services:
        base, lines = stages[name]
        assert base == "runtime"
        assert f'ENTRYPOINT ["safescale", "serve", "{name}"]' in lines
        assert f"COPY --from={name}-venv /opt/safescale /opt/safescale" in lines
        assert re.search(r"^EXPOSE [\d ]+$", lines, re.MULTILINE)


def test_the_command_line_serves_them(own_services: tuple[str, ...]) -> None:
    import typer

    from safescale.cli.operate.serve import app

    assert set(own_services) <= set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_no_image_runs_as_root(dockerfile: str, own_services: tuple[str, ...]) -> None:
    stages = _stages(dockerfile)
    for name in own_services:
        lines = stages["runtime"][1] + stages[name][1]
        assert re.findall(r"^USER (\S+)$", lines, re.MULTILINE)[-1] == "10001:10001"


def test_every_image_tells_its_health(dockerfile: str, own_services: tuple[str, ...]) -> None:
    stages = _stages(dockerfile)
    assert 'CMD ["python", "-m", "safescale.probe"]' in stages["runtime"][1]
    for name in own_services:
        lines = stages[name][1]
        if name in ("gateway", "model-server"):
            port = re.search(r"SAFESCALE_PORT=(\d+)", lines)
            assert port is not None
            assert f"http://127.0.0.1:{port.group(1)}/" in lines
        else:
            assert "HEALTHCHECK" not in lines


def test_settings_in_images_exist(dockerfile: str) -> None:
    known = {name.upper() for name in Settings.model_fields}
    assert set(re.findall(r"\bSAFESCALE_([A-Z_]+)=", dockerfile)) <= known


def test_requirements_of_each_environment_are_there(dockerfile: str, root: Path) -> None:
    calls = re.findall(r"(?<!/)venv\.sh ([a-z-]+)(?: '?([a-z0-9|-]+)'?)?", dockerfile)
    assert calls
    for name, names in calls:
        text = (root / f"requirements/{name}.txt").read_text()
        for package in names.split("|") if names else []:
            assert re.search(rf"^{package}==", text, re.MULTILINE), f"{package} is not in requirements/{name}.txt"


def test_packages_come_by_hash_alone(root: Path) -> None:
    assert "--require-hashes --no-deps" in (root / "services/venv.sh").read_text()
    assert "--no-index --no-deps" in (root / "services/seal.sh").read_text()


def test_old_builders_can_build_it(root: Path) -> None:
    for path in ("services/Dockerfile", "deploy/airgap/Dockerfile"):
        text = (root / path).read_text()
        assert "# syntax" not in text
        assert "<<" not in text
        assert "--link" not in text


def test_the_context_holds_what_is_copied(root: Path, dockerfile: str) -> None:
    patterns = (root / ".dockerignore").read_text().splitlines()
    assert "*" in patterns
    allowed = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE):
        for source in sources.split():
            assert source.split("/")[0] in allowed, source
            assert (root / source).exists()


@pytest.mark.parametrize("script", ["venv.sh", "seal.sh", "openmp.sh"])
def test_scripts_are_of_the_plain_shell(root: Path, script: str) -> None:
    done = subprocess.run(["sh", "-n", root / "services" / script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
