from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import build_parser, main


def test_every_command_has_help_and_a_function_that_exists() -> None:
    from importlib import import_module

    parser = build_parser()
    actions = next(a for a in parser._actions if getattr(a, "choices", None) and "run" in a.choices)
    for name, command in actions.choices.items():
        module, function = command.get_default("module").split(":")
        assert callable(getattr(import_module(module), function)), name
        assert command.description
        assert all(action.help for action in command._actions), name


def test_help_imports_neither_torch_nor_beam() -> None:
    code = (
        "import sys; from pipeline.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'apache_beam', 'astropy', 'pyarrow', 'numpy', 'transformers'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "run" in done.stdout


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["fly"], ["run", "--nonsense"], ["run", "--bundle", "x"], ["describe"]])
def test_wrong_words_exit_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "error" in capsys.readouterr().err


def test_all_wrong_options_of_run_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["run", "--output", "o", "--night", "yesterday", "--dtype", "fp8", "--threads", "0", "--tasks", "x"])
    text = capsys.readouterr().err
    assert code == 2
    for word in ("--input", "yesterday", "fp8", "--threads 0", "'x'"):
        assert word in text


def test_describe_an_unknown_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "nothing"]) == 2
    assert "rejects" in capsys.readouterr().err


def test_describe_rejects_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "rejects", "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert {"name": "source", "type": "string"}.items() <= about["columns"][0].items()
    assert len(about["flags"]) > 40


def test_python_dash_m_reaches_the_same_door() -> None:
    done = subprocess.run([sys.executable, "-m", "pipeline", "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("nightcat ")


@pytest.mark.parametrize("command", ["run", "train", "evaluate", "adapt"])
def test_an_option_that_is_given_again_adds_to_the_first(command: str) -> None:
    """Where the last one won, whole folders of a night were silently left out."""
    first = {"run": [], "train": ["x"], "evaluate": ["b"], "adapt": ["x"]}[command]
    more = {"train": ["--labels", "l", "--output", "o"], "evaluate": ["--labels", "l"], "adapt": ["--output", "o"]}
    words = [command, *first, "--input", "a", "b", "--input", "c", *more.get(command, [])]
    given = vars(build_parser().parse_args(words))
    assert given["inputs" if command == "run" else "input"] == ["a", "b", "c"]
    if command == "run":
        twice = build_parser().parse_args(["run", "--tasks", "x,y", "--tasks", "z"])
        assert twice.tasks == ["x", "y", "z"]


def test_options_of_a_training_reach_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    got: dict[str, object] = {}
    monkeypatch.setattr("finetune.commands.run_train", lambda *_, **named: got.update(named) or {})
    (tmp_path / "l.csv").write_text("x")
    words = ["train", "toy", "--labels", "l", "--input", str(tmp_path), "--output", "o", "--quiet", "--json"]
    assert (
        main([*words, "--set", "learning_rate=1e-3", "--method", "lora:4", "--steps", "7", "--split-by", "sky:5"]) == 0
    )
    assert got["options"] == {"learning_rate": 1e-3, "method": "lora:4", "steps": 7}
    assert got["split_by"] == "sky:5"
