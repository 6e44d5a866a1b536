"""``nightcat demo`` removes what an earlier demo wrote, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli import demo, main


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands that a demo runs, which only make their folders here."""
    done: list[str] = []

    def step(arguments: list[str]) -> int:
        done.append(arguments[0])
        if arguments[0] == "simulate":
            for name in ("night", "truth"):
                (Path(arguments[1]) / name).mkdir(parents=True)
        elif arguments[0] == "run":
            Path(arguments[arguments.index("--output") + 1]).mkdir()
        return 0

    monkeypatch.setattr(demo, "main", step)
    monkeypatch.setattr(demo, "_judge", lambda options, folder, catalog, seconds: 0)
    return done


@pytest.mark.parametrize("name", ["night/mine.fits", "truth/mine.csv", "catalog/mine.parquet", "report.html"])
def test_what_a_user_has_is_not_removed(
    name: str, tmp_path: Path, steps: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("years of work")
    assert main(["demo", "--directory", str(tmp_path)]) == 2
    assert (tmp_path / name).read_text() == "years of work"
    assert str(tmp_path / name.split("/")[0]) in capsys.readouterr().err
    assert steps == []


def test_a_link_to_what_a_user_has_is_not_followed(tmp_path: Path, steps: list[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "night").symlink_to(tmp_path / "mine")
    assert main(["demo", "--directory", str(tmp_path / "d")]) == 2
    assert (tmp_path / "mine").is_dir()


def test_what_a_demo_wrote_is_replaced(tmp_path: Path, steps: list[str]) -> None:
    assert main(["demo", "--directory", str(tmp_path)]) == 0
    (tmp_path / "night" / "of_the_first").write_text("x")
    (tmp_path / "report.html").write_text(f"<title>{demo.REPORT_TITLE}</title>")
    assert main(["demo", "--directory", str(tmp_path)]) == 0
    assert not (tmp_path / "night" / "of_the_first").exists()
    assert steps == ["simulate", "run", "verify", "rejects"] * 2


def test_a_demo_that_was_cut_off_can_be_run_again(
    tmp_path: Path, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(arguments: list[str]) -> int:
        (tmp_path / "night").mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demo, "main", interrupted)
        assert main(["demo", "--directory", str(tmp_path)]) == 130
    assert main(["demo", "--directory", str(tmp_path)]) == 0
