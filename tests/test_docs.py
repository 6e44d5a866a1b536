"""Docs are tested: the pages that derive from the code are up to date, and every command, flag and format is named."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)


@pytest.mark.parametrize("name", sorted(generate.PAGES))
def test_generated_pages_are_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == generate.PAGES[name](), f"run python docs/generate.py for docs/{name}"


def test_every_format_stands_in_the_formats_page() -> None:
    from transforms.readers import formats

    page = (ROOT / "docs" / "formats.md").read_text()
    assert [name for name in formats() if f"`{name}`" not in page] == []


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            place = ROOT / "docs" if page.parent.name == "parts" else page.parent  # a part is put into a page
            if "://" not in target and not (place / target).exists():
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert broken == []


def test_commands_of_the_readme_exist() -> None:
    from pipeline.cli import build_parser

    parser = build_parser()
    known = next(a.choices for a in parser._actions if getattr(a, "choices", None) and "run" in a.choices)
    named = set(re.findall(r"^nightcat ([a-z-]+)", (ROOT / "README.md").read_text(), re.M))
    assert named
    assert named <= set(known)
    for name in known:
        assert f"nightcat {name}" in (ROOT / "docs" / "commands.md").read_text()
