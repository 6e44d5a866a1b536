"""Write the pages that derive from the code: flags, catalog schema, formats, commands.

Run ``python docs/generate.py``; ``tests/test_docs.py`` fails where a page is not what this writes.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

NOTE = "<!-- written by docs/generate.py: do not edit -->\n"


def flags_page() -> str:
    from transforms.flags import REGISTRY

    lines = [
        NOTE,
        "# Flags\n",
        "`flags` is a 64-bit integer in every row. `transforms.flags.decode(value)` names the bits that are set.\n",
        "| bit | value | name | meaning |",
        "|---:|---:|---|---|",
    ]
    lines += [f"| {f.bit} | {f.value} | `{f.name}` | {f.sentence} |" for f in REGISTRY]
    return "\n".join(lines) + "\n"


def schema_page() -> str:
    from pipeline.tables import describe_table, table_names

    lines = [
        NOTE,
        "# Catalog schema\n",
        "Null means not measured; every unit and UCD stands in the Parquet footer too.\n",
    ]
    for name in table_names():
        about = describe_table(name)
        lines += [f"## `{name}`\n", f"{about['description']}\n"]
        if about["reference"]:
            lines.append(f"Method: {about['reference']}\n")
        lines += ["| column | type | unit | UCD | null | meaning |", "|---|---|---|---|---|---|"]
        for c in about["columns"]:
            null = "yes" if c["nullable"] else "never"
            lines.append(f"| `{c['name']}` | {c['type']} | {c['unit']} | {c['ucd']} | {null} | {c['description']} |")
        lines.append("")
    return "\n".join(lines)


def formats_page() -> str:
    from transforms.readers import formats

    lines = [
        NOTE,
        "# Formats\n",
        "The kind of a file is found from its content; the first format that claims it owns it.\n",
    ]
    lines += ["| format | becomes | what it is |", "|---|---|---|"]
    lines += [f"| `{f.name}` | {f.record.__name__} | {f.description} |" for f in formats().values()]
    return "\n".join(lines) + "\n\n" + (HERE / "parts" / "formats.md").read_text(encoding="utf-8")


def commands_page() -> str:
    from pipeline.cli import build_parser

    parser = build_parser()
    lines = [
        NOTE,
        "# Commands\n",
        "Exit codes: 0 done; 1 rejects under `--strict`, or faults found by `verify`; 2 wrong options;",
    ]
    lines += ["3 sums do not close; 4 the output cannot be written; 5 the engine failed; 6 `finish` found a job"]
    lines += ["that is not done; 130 interrupted.\n"]
    actions = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    for name, command in actions.choices.items():
        lines += [f"## `nightcat {name}`\n", f"{command.description}\n", "| option | meaning |", "|---|---|"]
        for action in command._actions:
            label = ", ".join(f"`{o}`" for o in action.option_strings) or f"`{action.metavar}`"
            lines.append(f"| {label} | {action.help} |")
        lines.append("")
    return "\n".join(lines)


def training_page() -> str:
    """The options of a training, from their docstring, with the defaults of each task; then its backbones."""
    import inspect
    from dataclasses import MISSING, fields

    from finetune import tasks
    from finetune.training_options import TrainingOptions, make_options

    text = inspect.getdoc(TrainingOptions).partition("Parameters\n----------\n")[2]
    kinds, meanings = {}, {}
    for line in text.splitlines():
        if line and not line.startswith(" "):
            name, _, kinds[name] = line.partition(" : ")
            meanings[name] = ""
        else:
            meanings[name] += f" {line.strip()}"
    every = {name: make_options(tasks.get(name)).as_dict() for name in tasks.names()}

    def bars(text: str) -> str:
        return text.replace("|", "\\|")

    lines = [
        NOTE,
        "# Training options\n",
        "Each is set by `nightcat train TASK ... --set OPTION=VALUE`, where a value is JSON or text. A task has",
        "defaults of its own where they differ.\n",
        "| option | type | default | of a task | meaning |",
        "|---|---|---|---|---|",
    ]
    for field in fields(TrainingOptions):
        default = field.default_factory() if field.default is MISSING else field.default
        own = [f"{name} `{given[field.name]!r}`" for name, given in every.items() if given[field.name] != default]
        meaning = meanings[field.name].strip().replace("``", "`")
        lines.append(
            f"| `{field.name}` | {kinds[field.name]} | `{default!r}` | {bars(', '.join(own))} | {bars(meaning)} |"
        )
    return "\n".join(lines) + "\n\n" + (HERE / "parts" / "training.md").read_text(encoding="utf-8")


def augmentation_page() -> str:
    """Telescopes and single augmentations, from their declarations."""
    from finetune.augment.entries import SINGLE
    from finetune.augment.plan import FORM
    from finetune.augment.telescopes import IMAGES, LIGHT_CURVES, SPECTRA

    def depths(survey: object) -> str:
        return ", ".join(f"{band} {value:g}" for band, value in survey.depth.items()) or "none"

    lines = [
        NOTE,
        "# Augmentation\n",
        "`nightcat train TASK ... --set augment=LIST` trains on what other telescopes, worse nights or greater",
        "distances would make of the training objects. `LIST` has names with commas between, each of the form",
        f"{FORM}:\n",
        "```",
        "nightcat train stellar_parameters ... --set augment=desi,boss:0.5",
        "nightcat train variable_star ... --set augment=rubin,noise=5:0.3 --set augment_copies=2",
        "nightcat train galaxy_morphology ... --set augment=seeing=4,bands:0.5",
        "```",
        "It stands in the bundle's training options, with how many copies each changed, and in the model card. Every",
        "task has it, by the kind of record that it works on.\n",
        "## Single augmentations\n",
        "| name | record | strength | what happens |",
        "|---|---|---|---|",
    ]
    for e in SINGLE:
        size = f"{e.strength:g} {e.unit}".strip()
        lines.append(f"| `{e.name}` | {e.record.__name__} | {size} | {e.meaning} |")
    lines += [
        "\n## Telescopes: images\n",
        "| name | arcsec per pixel | seeing, arcsec | depth, AB at 5 sigma | source |",
        "|---|---:|---:|---|---|",
    ]
    lines += [f"| `{s.name}` | {s.pixel_scale:g} | {s.seeing:g} | {depths(s)} | {s.source} |" for s in IMAGES]
    lines += [
        "\n## Telescopes: spectra\n",
        "| name | Angstrom | resolving power | pixels | S/N per 69 km/s | source |",
        "|---|---|---|---|---|---|",
    ]
    for s in SPECTRA:
        power = ", ".join(f"{r:g} at {w:g}" for w, r in s.resolution)
        step = f"{s.step:g} in log10" if s.step < 0.01 else f"{s.step:g} Angstrom"
        (first, last), (low, high) = s.wavelength, s.signal_to_noise
        lines.append(f"| `{s.name}` | {first:g} to {last:g} | {power} | {step} | {low:g} to {high:g} | {s.source} |")
    lines += [
        "\nThe range of signal to noise is a choice of ours, around what each survey asks of spectra with published",
        "parameters; a copy draws from it, even in the logarithm.",
        "\n## Telescopes: light curves\n",
        "| name | filters | days between visits | clear | days | dark share of a year | floor | depth, AB at 5 sigma "
        "| source |",
        "|---|---|---:|---:|---:|---:|---:|---|---|",
    ]
    for s in LIGHT_CURVES:
        times = f"{s.interval:g} | {s.clear:g} | {s.length:g} | {s.dark:g} | {s.floor:g}"
        lines.append(f"| `{s.name}` | {', '.join(s.bands)} | {times} | {depths(s)} | {s.source} |")
    return "\n".join(lines) + "\n\n" + (HERE / "parts" / "augmentation.md").read_text(encoding="utf-8")


PAGES = {
    "augmentation.md": augmentation_page,
    "formats.md": formats_page,
    "flags.md": flags_page,
    "schema.md": schema_page,
    "commands.md": commands_page,
    "training.md": training_page,
}


def main() -> None:
    for name, page in PAGES.items():
        (HERE / name).write_text(page(), encoding="utf-8")
        print(f"wrote docs/{name}")


if __name__ == "__main__":
    main()
