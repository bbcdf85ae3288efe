"""Prediction with models that read a platform in front of every text."""

from __future__ import annotations

from opinionlm.data.cleaning import Step, clean_text
from opinionlm.data.platform_prefix import platform_text
from opinionlm.data.sources import Record
from opinionlm.errors import UserError
from opinionlm.experiments.labellers import Labeller


def check_platform(labeller: Labeller, column: str | None, name: str) -> None:
    """A model that was trained with platforms in front of its texts needs them, and no other has a use for them.

    Args:
        labeller: the model.
        column: that names each record's platform, None for none.
        name: the platform of all records, blank for none.

    Raises:
        UserError: there is none, two, one of unknown name, or one too many.
    """
    known = labeller.platforms
    if known is None:
        if column is not None or name:
            raise UserError("--platform: the model reads no platforms; leave --platform and --platform_column out")
        return
    if column is None and not name:
        raise UserError(
            "--platform: the model reads the platform in front of every text; name the column with --platform_column, "
            f"or give --platform ({', '.join(known)})"
        )
    if column is not None and name:
        raise UserError("--platform: --platform_column names a platform per record; give only one of the two")
    if name and name not in known:
        raise UserError(f"--platform: {name!r} is none that the model was trained on ({', '.join(known)})")


def read_text(record: Record, platform: str, steps: list[Step]) -> str:
    """What a model reads of a record: the cleaned text, behind its platform where there is one.

    Args:
        record: with the column ``platform`` where one was named.
        platform: of all records else; blank for models that read none.
        steps: of the cleaning.
    """
    text, _ = clean_text(record.fields["text"], steps)
    return platform_text(record.fields.get("platform", platform).strip(), text)
