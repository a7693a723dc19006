"""The published numbers: well-formed, none lost on the way from the collection, none changed."""

from collections import Counter

import pandas as pd
import pytest

import protocols
from protocols.errors import InputError
from results.measures import CONVENTIONS
from results.published_numbers import COLUMNS, FOLDER, MARKS, METRICS, REGIMES, of_method, published_numbers

NUMBER = ["method", "mark", "backbone", "protocol", "setting", "regime", "metric", "source"]
FILES = {"voc": {"voc"}, "ade": {"ade"}, "other": {"cityscapes", "coco-voc"}}


@pytest.fixture(scope="module")
def numbers():
    return published_numbers()


def test_every_row_keeps_the_schema(numbers):
    assert tuple(numbers.columns) == COLUMNS
    assert len(numbers) == 2449
    assert numbers["value"].between(0, 100).all()
    assert set(numbers["metric"]) == set(METRICS) and set(numbers["regime"]) == set(REGIMES)
    assert set(numbers["mark"]) == set(MARKS)
    assert set(numbers["convention"]) <= {"", "dkd", *CONVENTIONS}
    assert set(numbers["background_in_old"]) == {"", "yes", "no"}
    for column in ("method", "backbone", "source"):
        assert (numbers[column] != "").all()
    assert numbers["year"].str.fullmatch(r"(20[12]\d)?").all()
    text = numbers.drop(columns="value")
    assert (text == text.apply(lambda column: column.str.strip())).all(axis=None)
    assert not numbers["method"].str.contains(r"reproduced|re-run|\(").any()  # marks have a column of their own


def test_protocols_and_settings_are_those_of_the_grammar(numbers):
    ours = numbers[numbers["dataset"].isin(protocols.datasets())]
    assert len(ours) == 2428
    for name in ours["protocol"].unique():
        assert protocols.load(name).name == name
    own_settings = set(ours["setting"]) - {"image-partitioned"}
    assert own_settings == set(protocols.SETTINGS)
    others = numbers.drop(ours.index)
    assert set(others["setting"]) == {"", "domain-incremental"}
    assert (numbers["protocol"].str.partition("_")[0] == numbers["dataset"]).all()


def test_no_source_says_two_things_of_one_number_and_a_method_has_one_year(numbers):
    assert not numbers.duplicated(NUMBER).any()
    assert (numbers.groupby("method")[["year", "venue"]].nunique() == 1).all(axis=None)


def test_a_known_convention_says_whether_background_is_in_old(numbers):
    for name, rules in CONVENTIONS.items():
        rows = numbers[numbers["convention"] == name]
        for dataset, said in zip(rows["dataset"], rows["background_in_old"], strict=True):
            counted = rules.counts_background("old", protocols.dataset(dataset).background_counted)
            assert said == ("yes" if counted else "no")


def test_files_are_sorted_and_hold_their_data_sets():
    assert {path.stem for path in FOLDER.glob("*.csv")} == set(FILES)
    for name, datasets in FILES.items():
        content = (FOLDER / f"{name}.csv").read_bytes()
        assert b"\r" not in content and content.endswith(b"\n")
        frame = pd.read_csv(FOLDER / f"{name}.csv", dtype=str, keep_default_na=False)
        assert set(frame["dataset"]) == datasets
        keys = [
            (
                *(row.dataset, [int(n) for n in row.protocol.split("_")[-1].split("-")], row.setting, row.regime),
                *(row.method.casefold(), row.mark, row.backbone, row.source, METRICS.index(row.metric)),
            )
            for row in frame.itertuples()
        ]
        assert keys == sorted(keys)


def misfit(old: float, new: float, everything: float, n_old: int, n_new: int) -> bool:
    """Can no way of counting explain the three, up to rounding?

    With background in old or not, in all or not (its IoU anywhere from 30 to 100), or all without the classes of
    zero IoU, which only raises it, and never above the better of the two groups.
    """
    without = (n_old * old + n_new * new) / (n_old + n_new)
    within = ((n_old + 1) * old + n_new * new) / (n_old + n_new + 1)
    only_in_all = everything * (n_old + n_new + 1) - (n_old * old + n_new * new)  # the IoU that background had
    only_in_old = (n_old + 1) * old + n_new * new - everything * (n_old + n_new)
    explained = (
        abs(everything - without) < 0.3
        or abs(everything - within) < 0.3
        or 30 <= only_in_all <= 100
        or 30 <= only_in_old <= 100
        or within < everything <= max(old, new)
    )
    return not explained


def test_numbers_that_cannot_belong_together_are_noted(numbers):
    ours = numbers[numbers["dataset"].isin(protocols.datasets())]
    keys = [name for name in NUMBER if name != "metric"]
    wide = ours.pivot(index=[*keys, "dataset", "note"], columns="metric", values="value").reset_index()
    wide = wide.dropna(subset=["old", "new", "all"])
    assert len(wide) == 683
    for row in wide.to_dict("records"):
        first, total = len(protocols.load(row["protocol"]).steps[0].new), protocols.dataset(row["dataset"]).n_classes
        odd = misfit(row["old"], row["new"], row["all"], first, total - first)
        assert odd == bool(row["note"]), row


def test_a_misfit_is_one():
    assert not misfit(60, 30, 52.5, 15, 5)  # plain mean over 20 classes
    assert not misfit(60, 30, (15 * 60 + 5 * 30 + 90) / 21, 15, 5)  # background of 90 in all alone
    assert misfit(60, 30, 40, 15, 5)
    assert misfit(60, 30, 61, 15, 5)


def test_selection_by_protocol_method_and_setting():
    mib = published_numbers("voc_15-1", "mib", "overlapped")
    assert set(mib["method"]) == {"MiB"} and set(mib["setting"]) == {"overlapped"}
    own = mib[(mib["metric"] == "all") & (mib["backbone"] == "ResNet-101/DeepLabV3") & (mib["mark"] == "")]
    assert {29.3, 29.7, 32.2, 33.53, 34.6, 38.2} <= set(own["value"])  # the contradictions, all kept
    assert set(published_numbers(method="finetune")["method"]) == {"FT"}
    assert of_method(pd.Series(["MiB", "MiB+AWT", "FT"]), "mib").tolist() == [True, False, False]
    with pytest.raises(InputError, match="unknown published protocol 'voc_15-2'.*did you mean"):
        published_numbers("voc_15-2")
    with pytest.raises(InputError, match="unknown published method 'mbi'.*MiB"):
        published_numbers(method="mbi")


# What README.md says was renamed: old text -> new text.
DATASET = {"VOC2012": "voc", "ADE20K": "ade", "Cityscapes": "cityscapes", "COCO-to-VOC": "coco-voc"}
SETTING = {
    "overlapped weak": ("overlapped", "weak"),
    "disjoint weak": ("disjoint", "weak"),
    "weak": ("", "weak"),
    "overlapped federated": ("overlapped", "federated"),
    "image-partitioned (MiB ADE split)": ("image-partitioned", "standard"),
}
VENUE = {
    "upper bound": "",
    "baseline": "",
    "WSSS baseline": "",
    "paper text, venue not seen": "",
    "anonymous ICLR submission": "ICLR submission",
    "AAAI (accepted, per a listing)": "AAAI (accepted)",
    "CVPR (iCaRL)": "CVPR",
    "CVPR (baseline inside FISS)": "CVPR",
}
BACKBONE = {"transformer (Adapter-T, backbone not stated in note)": "transformer (not stated)"}
LEADERBOARD = "https://paperswithcode.com/paper/mitigating-background-shift-in-class"
SOURCE = {
    f"{LEADERBOARD} (also seed 001 values)": LEADERBOARD,
    'seed 001 (Papers with Code 2), row "Disjoint 19-1"': 'Papers with Code, row "Disjoint 19-1"',
}


def test_nothing_is_lost_or_changed_but_what_the_readme_names(shared):
    collected = pd.read_csv(shared / "published.csv", dtype=str, keep_default_na=False)
    expected = Counter()
    for row in collected.itertuples():
        method, mark = row.method.removesuffix(" (FISS)"), ""
        for word in ("reproduced", "re-run"):
            if method.endswith(f" ({word})"):
                method, mark = method.removesuffix(f" ({word})"), word
        if row.source.endswith(("(user re-run)", "(author re-run)")):
            mark = "re-run"
        dataset = DATASET[row.dataset]
        expected[
            (
                *(method, mark, row.year, VENUE.get(row.venue, row.venue), BACKBONE.get(row.backbone, row.backbone)),
                *(dataset, f"{dataset}_{row.protocol}", *SETTING.get(row.setting, (row.setting, "standard"))),
                *(row.metric, row.value, SOURCE.get(row.source, row.source)),
            )
        ] += 1
    files = [pd.read_csv(path, dtype=str, keep_default_na=False) for path in FOLDER.glob("*.csv")]
    kept = pd.concat(files).drop(columns=["convention", "background_in_old", "note"])
    assert Counter(kept.itertuples(index=False, name=None)) == expected
