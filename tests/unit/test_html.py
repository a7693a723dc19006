"""The HTML report as text: what it says, escapes and leaves out; equal runs, equal bytes."""

import math
import re
from html import escape
from html.parser import HTMLParser

from results.groups import group_runs
from results.html import Section, headline, to_html
from results.html.tables import table_element
from results.naming import as_in_papers
from results.render import across_tables, group_tables, report
from results.statistics import summary
from results.table import Column, Line, Table
from results.tables import main_table
from tests.made_up import AWKWARD, JOINT, make, two_protocols

VOID = {"meta", "link", "img", "br"}


class Elements(HTMLParser):
    """The elements of a page, in order; every one is closed."""

    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def page_of(store, **options) -> str:
    _, (path,) = report(store, formats=("html",), **options)
    return path.read_text()


def test_the_page_holds_the_tables_of_the_other_formats_and_all_figures(tmp_path):
    groups = group_runs(two_protocols(tmp_path))
    text = page_of(tmp_path)
    elements = Elements(text)
    tables = [*(table for group in groups for table in group_tables(group)), *across_tables(groups)]
    titles = [escape(as_in_papers(table).title) for table in tables]
    assert re.findall(r"<h3 id=[^>]*>(.*)</h3>", text) == titles
    assert len([table for table in elements.all("table") if table.get("class") == "sortable"]) == len(tables) == 10
    assert '<u>59.5</u><span class="spread"> ± 0.7</span>' in text  # new classes of MiB, 60 and 59, second to LBD
    assert len(elements.all("img")) == 9 + 8  # no times are recorded for the second protocol
    assert all(image["alt"] and image["src"].startswith("data:image/webp;base64,") for image in elements.all("img"))
    assert elements.all("section")[-1]["id"] == "across"
    anchors = [link["href"][1:] for link in elements.all("a")]
    identities = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert anchors == ["group-1", "group-2", "across"] and set(anchors) < set(identities)
    assert len(identities) == len(set(identities))


def test_nothing_on_the_page_needs_the_network_and_no_other_script_runs(tmp_path):
    make(tmp_path)
    elements = Elements(page_of(tmp_path))
    (policy,) = [meta["content"] for meta in elements.all("meta") if "Security" in (meta.get("http-equiv") or "")]
    assert policy.startswith("default-src 'none'; img-src data:;") and "script-src 'sha256-" in policy
    assert elements.all("script") == [{}] and len(elements.all("style")) == 1
    for _, attributes in elements.found:
        for key in ("src", "href"):
            assert attributes.get(key, "#")[:5] in ("#", "data:", "#grou"), attributes
        assert not [key for key in attributes if key.startswith("on")]


def test_names_are_text_whatever_they_hold(tmp_path):
    evil = "<script>x</script>"
    names = [*AWKWARD[:4], '" onload="x']
    make(tmp_path, evil, label=evil, run="r1", class_names=names, network="a&b", command=f"bench run {evil}")
    make(tmp_path, "mib", method_note="</ul><h1>", class_names=names, network="a&b", status="failed", error="<i>")
    text = page_of(tmp_path)
    elements = Elements(text)
    assert elements.all("script") == [{}]
    assert all(b == {} for b in elements.all("b")) and "<b>{owl}" not in text
    assert text.count("</script>") == 1 and "&lt;script&gt;x&lt;/script&gt;" in text
    assert "&lt;/script&gt;&lt;b&gt;{owl}~^" in text and "a&amp;b" in text and "<i>" not in text
    assert len(elements.all("h1")) == 1


def test_equal_runs_give_equal_bytes(tmp_path):
    for store in ("a", "b"):
        two_protocols(tmp_path / store)
    assert page_of(tmp_path / "a") == page_of(tmp_path / "b")


def test_the_summary_names_the_best_the_bound_and_what_was_left_out(tmp_path):
    for method, best in (("mib", 50), ("plop", 70), ("finetune", 20)):
        make(tmp_path, method, hits=((90, 80), (60, 40, 50), (best,) * 4))
    runs = [make(tmp_path, "joint", hits=JOINT), make(tmp_path, "lbd", hits=((99, 99), (99, 99, 99), None))]
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "manifest.json").write_text("{")
    background = 100 * 100 / (100 + 120)
    text = page_of(tmp_path)
    assert f"PLOP {(background + 280) / 5:.1f}, then MiB" in text and "; Joint (upper bound) " in text
    assert "(0-4) at the last step" in text and "5 runs, 5 methods" in text
    assert "LBD" not in headline(main_table(runs)) and "torn/manifest.json cannot be read" in text
    assert headline(main_table(runs[1:])) == "No run is complete yet."


def test_a_table_by_hand():
    columns = (
        Column("all", "0-4", over="x", better="higher"), Column("new", over="x"), Column("p", kind="count"),
    )  # fmt: skip
    lines = (
        Line("a", (summary([50, 70]), summary([1]), 3)),
        Line("a", (summary([10]), summary([math.nan]), 0)),
        Line("j", (summary([99]), summary([2]), 1), upper_bound=True),
    )
    text = table_element(Table("main", "s", "t", columns, lines, "x", below=("a < b",)), "one")
    Elements(text)
    heads = re.findall(r"<th scope=\"col[^>]*>", text)
    assert heads == [
        '<th scope="col" rowspan="2" data-column="0" data-kind="text">',
        '<th scope="colgroup" colspan="2">',
        '<th scope="col" class="numeric" rowspan="2" data-column="3" data-kind="count">',
        '<th scope="col" class="numeric" data-column="1" data-kind="number">',
        '<th scope="col" class="numeric" data-column="2" data-kind="number">',
    ]
    first, again, bound = re.findall(r"<tr>(<th scope=\"row\".*)</tr>", text)
    assert first.startswith('<th scope="row">a</th><td class="numeric"><strong>60.0</strong><span')
    assert again.startswith('<th scope="row" class="greyed">a</th>')  # its name again, since sorting parts the lines
    assert again.endswith('<td class="numeric">-</td><td class="numeric">-</td>')
    assert bound.startswith('<th scope="row">j</th><td class="numeric greyed">99.0')
    assert text.count("<tbody") == 2 and '<tbody class="greyed">' in text and "<p>a &lt; b</p>" in text


def test_the_runs_behind_a_row_can_be_made_again(tmp_path):
    known = {
        "command": "/somewhere/.venv/bin/bench run --methods mib", "git_revision": "abc123",
        "config": {"batch": 8, "store": "/somewhere/runs"}, "versions": {"torch": "2.8"}, "recipe": "f" * 64,
        "steps": [{"index": 2, "changed_modules": ["methods.<b>"]}],
    }  # fmt: skip
    runs = [make(tmp_path, seed=seed, **known) for seed in (0, 1)]
    runs.append(make(tmp_path, seed=2, hits=((90, 80), None, None), **known))
    (group,) = group_runs(runs)
    text = to_html([Section(group, group_tables(group), [])], [])
    assert text.count("<pre>bench run --methods mib</pre>") == 1 and "/somewhere" not in text
    for fact in ("abc123", "torch 2.8", "f" * 64, "&quot;batch&quot;: 8", "3 of 3", "1 of 3", "left out", "averaged"):
        assert fact in text
    assert "Seed 1: trained by other code of the same version: step 2 (methods.&lt;b&gt; changed since)" in text
    for run in runs:
        assert run.manifest["run"] in text
