"""Which files belong to one person, where only their names can tell."""

import re

from fdseg.errors import FdsegError


class ParticipantRule:
    """The person of a case, by the case's name.

    Args:
        rule: ``null``, each case is a person; ``pairs``, the cases numbered 2k−1 and 2k are one;
            anything else, a regular expression whose first group is the person.
    """

    def __init__(self, rule: str | None) -> None:
        try:
            re.compile(rule or "")
        except re.error as error:
            raise FdsegError(
                f"data.cohort.participant={rule}: not a regular expression ({error})."
            ) from None
        self.rule = rule

    def __call__(self, name: str) -> str:
        """The person of the case of this name.

        Raises:
            FdsegError: the rule does not fit the name.
        """
        if self.rule is None:
            return name
        if self.rule == "pairs":
            number = re.search(r"(\d+)$", name)
            if number:
                return f"pair{(int(number[1]) + 1) // 2}"
        else:
            match = re.search(self.rule, name)
            if match and match.groups() and match[1]:
                return match[1]
        raise FdsegError(
            f"{name}: data.cohort.participant={self.rule} finds no participant in this name. Use "
            "null where each file is a person, pairs for numbered pairs, or a regular expression "
            "with one group."
        )
