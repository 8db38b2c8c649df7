"""What a check has to say."""

from dataclasses import dataclass
from typing import Literal

Level = Literal["refuse", "warn", "note"]


@dataclass(frozen=True)
class Finding:
    """`refuse`: it cannot work; `warn`: it may not, or not as meant; `note`: a number worth seeing.

    `text` is a sentence or two with the key, its value and the fix. `of_machine`: it was seen on this machine and may
    be otherwise where the stage will run.
    """

    level: Level
    text: str
    of_machine: bool = False
