"""An experiment over a tiny model that works until a test spoils it."""

import json
from pathlib import Path

from tests.quantize.tiny import experiment, tiny_model
from tokenhour.contracts.errors import exit_code_of
from tokenhour.quantize.cli import cli


class Desk:
    """A folder with an experiment over a tiny model, and the command that quantizes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = tiny_model(folder / "m")
        self.data = experiment(self.model, folder / "text.txt").model_dump(mode="json")
        self.data["schemes"] = ["none"]

    def arguments(self) -> list[str]:
        """Write the experiment and return the command line that quantizes it."""
        file = self.folder / "exp.yaml"
        file.write_text(json.dumps(self.data))
        places = ["--results", str(self.folder / "results"), "--checkpoints", str(self.folder / "checkpoints")]
        return ["run", str(file), *places]

    def run(self) -> int:
        """Run the command in this process and return its exit code."""
        return exit_code_of(lambda: cli.main(self.arguments(), standalone_mode=False))

    def left(self) -> list[str]:
        """List everything that the command left."""
        places = [self.folder / "results", self.folder / "checkpoints"]
        found = [file for place in places for file in (place, *place.rglob("*")) if file.exists()]
        return [str(file.relative_to(self.folder)) for file in found]
