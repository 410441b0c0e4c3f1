"""What every record on disk has in common: a kind, a version, frozen fields, no strangers, one file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo

from tokenhour.contracts.errors import InputError
from tokenhour.contracts.io.atomic_io import sha256_file, write_bytes_atomic
from tokenhour.contracts.io.yaml_loader import explain

# Reading all fields' docstrings from the source takes a fifth of a start: only frontdoor.docgen shows them, and asks.
DESCRIBE = "TOKENHOUR_DESCRIBE_FIELDS"
# The ranges that numbers in records keep to.
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
_RECORDED = "recorded"


def is_recorded(info: ValidationInfo) -> bool:
    """Tell whether a record is being read: a rule that came later holds for what people write, not for what was measured."""
    return bool(info.context and info.context.get(_RECORDED))


class Part(BaseModel):
    """A piece of a record: frozen, with unknown fields forbidden and numbers finite."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        protected_namespaces=(),
        use_attribute_docstrings=DESCRIBE in os.environ,
    )


class Interval(Part):
    """A figure with its 95 % interval; `low`/`high` are absent where none can be estimated."""

    value: float
    low: float | None = None
    high: float | None = None


class Record(Part):
    """A file of one run. Sub-classes fix `record` and `version` to literals.

    `file_name` is where the run folder keeps it. A record is written once; `write` refuses to replace one.
    """

    file_name: ClassVar[str]

    def to_json(self) -> bytes:
        """Serialise with stable order and two-space indent, one newline at the end."""
        return (json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False) + "\n").encode()

    def write(self, folder: Path) -> Path:
        """Write the record into `folder` atomically; raises FileExistsError when one stands there."""
        path = folder / self.file_name
        write_bytes_atomic(path, self.to_json(), overwrite=False)
        return path

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and validate; `path` is the file or the folder that holds it.

        Raises InputError naming the file, the field and the remedy.
        """
        file = path / cls.file_name if path.is_dir() else path
        try:
            data = json.loads(file.read_bytes())
        except FileNotFoundError as error:
            raise InputError(
                f"no {cls.file_name} here", where=str(file.parent), remedy="run the stage that writes it first"
            ) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InputError(
                f"not a readable record: {error}", where=str(file), remedy="restore the file or run its stage again"
            ) from error
        return cls.parse(data, where=str(file))

    @classmethod
    def parse(cls, data: Any, *, where: str) -> Self:
        """Validate JSON-like data into the record; InputError names `where` and each bad field."""
        try:
            return cls.model_validate_json(json.dumps(data), context={_RECORDED: True})
        except ValidationError as error:
            raise InputError(
                explain(error, cls, lines={}), where=where, remedy=f"see docs/records/{cls.kind()}.md for the fields"
            ) from error

    @classmethod
    def exists(cls, folder: Path) -> bool:
        """Tell whether `folder` holds this record."""
        return (folder / cls.file_name).is_file()

    @classmethod
    def sha256_in(cls, folder: Path) -> str:
        """Hash the record's file in `folder`."""
        return sha256_file(folder / cls.file_name)

    @classmethod
    def kind(cls) -> str:
        """Return the record's kind, the literal of its `record` field."""
        return str(cls.model_fields["record"].default)
