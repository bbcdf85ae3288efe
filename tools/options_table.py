"""The table of all options for docs/options.md.

python -m tools.options_table > docs/options.md
"""

from __future__ import annotations

from opinionlm.config.config import SCRIPTS, default_of, options_in, subject_of
from opinionlm.config.unread import read_by

SHORT = {"train_classifier": "classifier", "train_instruct": "instruct"}
HEAD = """# Options

Made by `python -m tools.options_table > docs/options.md` from the declarations in `opinionlm/config/` (options.py,
training_options.py, method_options.py); a test compares the two. Names are those of the YAML files and of the command
line. A value outside its range is refused with its place: `my.yaml:3: lora_r: 0 must be at least 1`.

An option that differs from its default although the chosen way does not read it is refused, before anything is
loaded: "read by" says what has to be chosen. Where the choice is made on the command line (`--engine tfidf`) and the
option stands in the YAML file, its default is used and a line says so; `config.yaml` of the run holds what was used.
Where both `max_steps` and `num_train_epochs` are stated, wherever that is, `max_steps` decides; the epochs are left
out and a line says so; so it is with `seeds` and `seed`. In a table of `reproduce.py` an option is left out of the
cells that do not read it; one that no cell reads is refused.
What `auto` or the data decide is checked again when the data are read. Where things lie (`output_dir`, `data_dir`,
`prepared_dir`) may be said even where nothing comes to lie there.

Scripts: classifier (`train_classifier.py`, and `opinionlm.experiments.cross_fit`), instruct (`train_instruct.py`),
prompt (`prompt.py`), pretrain (`pretrain.py`), mining (`opinionlm.adaptation.adapt.mining`,
which takes the YAML of a classifier and reads its own options there). Other fields of
`transformers.TrainingArguments`: docs/trainer_arguments.md.
"""


def table() -> str:
    """The page: a section per subject, a row per option."""
    lines = [HEAD]
    for kind in dict.fromkeys(kind for kinds in SCRIPTS.values() for kind in kinds):
        scripts = [script for script, kinds in SCRIPTS.items() if kind in kinds]
        names = ", ".join(SHORT.get(script, script) for script in scripts)
        lines += [f"## {subject_of(kind)}", "", f"Scripts: {names}.", ""]
        lines += ["| option | default | range | read by | |", "| --- | --- | --- | --- | --- |"]
        for entry in options_in(kind):
            words = {SHORT.get(script, script): read_by(entry.name, script) for script in scripts}
            found = [one for one in dict.fromkeys(words.values()) if one]
            if len({*words.values()}) > 1:
                found = [f"{', '.join(script for script in words if words[script] == one)}: {one}" for one in found]
            cells = [f"`{entry.name}`", f"`{default_of(entry.name)!r}`", entry.metadata["bounds"].words()]
            cells += ["; ".join(found), entry.metadata["help"].replace("|", "\\|")]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(), end="")
