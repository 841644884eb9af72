"""Vinyals' split of the characters of Omniglot."""

from collections.abc import Sequence

# Vinyals' split: the 172 validation characters are five whole background alphabets, and
# the 423 test characters are the last of the evaluation alphabets in sorted order.
VALIDATION_ALPHABETS = frozenset(
    {"Armenian", "Bengali", "Early_Aramaic", "Hebrew", "Mkhedruli_(Georgian)"}
)
FIRST_TEST_CHARACTER = ("Gurmukhi", "character42")


def vinyals_split(characters: Sequence[tuple[str, str, str]]) -> dict[str, list[int]]:
    """Sorts characters into Vinyals' train, validation and test.

    Args:
      characters: (part, alphabet, character) of each, part being "background" or
        "evaluation".

    Returns:
      The indices of the characters of each split.
    """
    splits: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for i, (part, alphabet, character) in enumerate(characters):
        if part == "background":
            split = "validation" if alphabet in VALIDATION_ALPHABETS else "train"
        else:
            late = (alphabet, character) >= FIRST_TEST_CHARACTER
            split = "test" if late else "train"
        splits[split].append(i)
    return splits
