"""How often workers have begun with a unit of work, kept where no worker's death reaches it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Attempts:
    """Counts attempts.

    Attributes:
        begun: attempts by the number of the unit of work.
    """

    begun: Counter[int] = field(default_factory=Counter)

    def begin(self, number: int) -> int:
        """Count an attempt, and return how many there are now.

        Args:
            number: of the unit of work.
        """
        self.begun[number] += 1
        return self.begun[number]
