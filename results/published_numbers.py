"""Numbers from papers, READMEs and logs (`published/*.csv`), each with its source. Quoted, never averaged.

published/README.md says where they come from and what was cleaned. One row is one number from one source;
several sources for one number are several rows.
"""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from protocols.errors import InputError, unknown

if TYPE_CHECKING:
    import pandas as pd

FOLDER = Path(__file__).with_name("published")
COLUMNS = (
    *("method", "mark", "year", "venue", "backbone", "dataset", "protocol", "setting", "regime", "metric", "value"),
    *("convention", "background_in_old", "note", "source"),
)
METRICS = ("old", "new", "all", "avg")
MARKS = ("", "reproduced", "re-run")  # "": the authors' own number, or a quotation of it
REGIMES = ("standard", "weak", "federated")  # weak: image-level labels; federated: several clients
OWN_NAMES = {"finetune": "FT"}  # where a method of ours has another name than in print


@cache
def _everything() -> "pd.DataFrame":
    import pandas as pd  # on use: `bench report --help` must not wait for it

    return pd.concat([_read(file) for file in sorted(FOLDER.glob("*.csv"))], ignore_index=True)


def _read(file: Path) -> "pd.DataFrame":
    import pandas as pd

    try:
        rows = pd.read_csv(file, dtype=str, keep_default_na=False)
        if tuple(rows.columns) != COLUMNS:
            raise ValueError(f"its columns are not {', '.join(COLUMNS)}")
        numbers = rows.astype({"value": float})
        _check(numbers)
        return numbers
    except (OSError, ValueError) as error:  # ValueError: also what pandas raises on bytes that are no text or table
        raise InputError(f"the published numbers {file} cannot be read ({error}): install ciss-bench again") from error


def _check(numbers: "pd.DataFrame") -> None:
    """Raises ValueError, naming the line, for a number that is no percentage or is one of nothing we know."""
    wrong = ~numbers["value"].between(0, 100)
    for column, known in (("metric", METRICS), ("mark", MARKS), ("regime", REGIMES)):
        wrong |= ~numbers[column].isin(known)
    for column in ("method", "protocol", "source"):
        wrong |= numbers[column].str.strip() == ""
    if wrong.any():
        place = int(wrong.to_numpy().argmax())
        shown = ", ".join(f"{name}={numbers[name][place]}" for name in ("method", "protocol", "metric", "value"))
        raise ValueError(f"its line {place + 2} is no percentage with a source: {shown}")


def published_numbers(
    protocol: str | None = None, method: str | None = None, setting: str | None = None
) -> "pd.DataFrame":
    """The published numbers, columns COLUMNS: `value` in percent, text elsewhere ("" where nothing is known).

    protocol: such as voc_15-1. method: a name in print (MiB) or of ours (mib, finetune), in any case; the
    mark of a re-run is no part of it. setting: such as overlapped. InputError: a protocol or method that
    no row has.
    """
    numbers = _everything()
    if protocol is not None:
        if not (numbers["protocol"] == protocol).any():
            raise unknown("published protocol", protocol, numbers["protocol"].unique())
        numbers = numbers[numbers["protocol"] == protocol]
    if method is not None:
        known = _everything()["method"]
        if not of_method(known, method).any():
            raise unknown("published method", method, sorted(known.unique(), key=str.casefold))
        numbers = numbers[of_method(numbers["method"], method)]
    if setting is not None:
        numbers = numbers[numbers["setting"] == setting]
    return numbers.reset_index(drop=True)


def of_method(names: "pd.Series", method: str) -> "pd.Series":
    """Which of the printed names (text) mean `method`, one of ours or in print: bool, as long as `names`."""
    return names.str.casefold() == OWN_NAMES.get(method, method).casefold()
