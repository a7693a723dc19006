"""The papers behind methods, networks, data and measures: for `\\cite`, and as a bibliography in two forms."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """What a bibliography says of a paper, as LaTeX. authors: full names in order."""

    authors: tuple[str, ...]
    title: str
    venue: str
    year: int
    kind: str = "inproceedings"  # or article

    def bibtex(self, key: str) -> str:
        """The entry of a .bib file. The title's capitals are kept."""
        field = "booktitle" if self.kind == "inproceedings" else "journal"
        return (
            f"@{self.kind}{{{key},\n  author = {{{' and '.join(self.authors)}}},\n  title = {{{{{self.title}}}}},\n"
            f"  {field} = {{{self.venue}}},\n  year = {{{self.year}}},\n}}\n"
        )

    def bibitem(self, key: str) -> str:
        """The entry of a bibliography written into a document."""
        *others, last = self.authors
        names = f"{', '.join(others)} and {last}" if others else last
        where = f"In {self.venue}" if self.kind == "inproceedings" else self.venue
        return f"\\bibitem{{{key}}} {names}. {self.title}. {where}, {self.year}.\n"


PAPERS = {
    "li2016lwf": Paper(
        ("Zhizhong Li", "Derek Hoiem"), "Learning without Forgetting", "European Conference on Computer Vision", 2016
    ),
    "michieli2019ilt": Paper(
        ("Umberto Michieli", "Pietro Zanuttigh"),
        "Incremental Learning Techniques for Semantic Segmentation",
        "IEEE/CVF International Conference on Computer Vision Workshops",
        2019,
    ),
    "cermelli2020mib": Paper(
        ("Fabio Cermelli", "Massimiliano Mancini", "Samuel {Rota Bul{\\`o}}", "Elisa Ricci", "Barbara Caputo"),
        "Modeling the Background for Incremental Learning in Semantic Segmentation",
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
        2020,
    ),
    "douillard2021plop": Paper(
        ("Arthur Douillard", "Yifu Chen", "Arnaud Dapogny", "Matthieu Cord"),
        "PLOP: Learning without Forgetting for Continual Semantic Segmentation",
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
        2021,
    ),
    "cha2021ssul": Paper(
        ("Sungmin Cha", "Beomyoung Kim", "YoungJoon Yoo", "Taesup Moon"),
        "SSUL: Semantic Segmentation with Unknown Label for Exemplar-based Class-Incremental Learning",
        "Advances in Neural Information Processing Systems",
        2021,
    ),
    "park2024mbs": Paper(
        ("Gilhan Park", "WonJun Moon", "SuBeen Lee", "Tae-Young Kim", "Jae-Pil Heo"),
        "Mitigating Background Shift in Class-Incremental Semantic Segmentation",
        "European Conference on Computer Vision",
        2024,
    ),
    "wu2025lbd": Paper(
        ("Ruitao Wu", "Yifan Zhao", "Jia Li"),
        "Learning Yourself: Class-Incremental Semantic Segmentation with "
        "Language-Inspired Bootstrapped Disentanglement",
        "IEEE/CVF International Conference on Computer Vision",
        2025,
    ),
    "chen2017deeplab": Paper(
        ("Liang-Chieh Chen", "George Papandreou", "Florian Schroff", "Hartwig Adam"),
        "Rethinking Atrous Convolution for Semantic Image Segmentation",
        "arXiv preprint arXiv:1706.05587",
        2017,
        "article",
    ),
    "strudel2021segmenter": Paper(
        ("Robin Strudel", "Ricardo Garcia", "Ivan Laptev", "Cordelia Schmid"),
        "Segmenter: Transformer for Semantic Segmentation",
        "IEEE/CVF International Conference on Computer Vision",
        2021,
    ),
    "radford2021clip": Paper(
        (
            "Alec Radford", "Jong Wook Kim", "Chris Hallacy", "Aditya Ramesh", "Gabriel Goh", "Sandhini Agarwal",
            "Girish Sastry", "Amanda Askell", "Pamela Mishkin", "Jack Clark", "Gretchen Krueger", "Ilya Sutskever",
        ),
        "Learning Transferable Visual Models from Natural Language Supervision",
        "International Conference on Machine Learning",
        2021,
    ),
    "everingham2010voc": Paper(
        ("Mark Everingham", "Luc {Van Gool}", "Christopher K. I. Williams", "John Winn", "Andrew Zisserman"),
        "The Pascal Visual Object Classes (VOC) Challenge",
        "International Journal of Computer Vision",
        2010,
        "article",
    ),
    "hariharan2011sbd": Paper(
        ("Bharath Hariharan", "Pablo Arbel{\\'a}ez", "Lubomir Bourdev", "Subhransu Maji", "Jitendra Malik"),
        "Semantic Contours from Inverse Detectors",
        "IEEE International Conference on Computer Vision",
        2011,
    ),
    "zhou2017ade20k": Paper(
        ("Bolei Zhou", "Hang Zhao", "Xavier Puig", "Sanja Fidler", "Adela Barriuso", "Antonio Torralba"),
        "Scene Parsing through ADE20K Dataset",
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition",
        2017,
    ),
    "chaudhry2018forgetting": Paper(
        ("Arslan Chaudhry", "Puneet K. Dokania", "Thalaiyasingam Ajanthan", "Philip H. S. Torr"),
        "Riemannian Walk for Incremental Learning: Understanding Forgetting and Intransigence",
        "European Conference on Computer Vision",
        2018,
    ),
}  # fmt: skip

METHODS = {
    "lwf": "li2016lwf", "ilt": "michieli2019ilt", "mib": "cermelli2020mib", "plop": "douillard2021plop",
    "mbs": "park2024mbs", "lbd": "wu2025lbd",
}  # fmt: skip
NETWORKS = {"deeplab": ["chen2017deeplab"], "segmenter": ["strudel2021segmenter", "radford2021clip"]}
DATA = {"voc": ["everingham2010voc", "hariharan2011sbd"], "ade": ["zhou2017ade20k"]}
MEASURES = {"forgetting": ["chaudhry2018forgetting"]}
CONVENTIONS = {name: METHODS[name] for name in ("mib", "plop", "mbs")} | {"ssul": "cha2021ssul"}


def of_method(method: str) -> str | None:
    """The key of a method's paper; None for a method of none, or of the user's own."""
    return METHODS.get(method)


def of_provenance(provenance: Mapping[str, str]) -> dict[str, list[str]]:
    """What else a table rests on: "network", "data" and "convention", each with the keys of its papers."""
    family = provenance.get("network", "").split("-")[0]
    convention = CONVENTIONS.get(provenance.get("convention", ""))
    found = {
        "network": NETWORKS.get(family, []),
        "data": DATA.get(provenance.get("data", ""), []),
        "convention": [convention] if convention else [],
    }
    return {what: keys for what, keys in found.items() if keys}


def of_measures(names: Iterable[str]) -> dict[str, list[str]]:
    """The papers behind those of the measures that have one."""
    return {name: MEASURES[name] for name in names if name in MEASURES}


def bibliography(keys: Iterable[str]) -> str:
    """A .bib file with the papers of these keys, each once, sorted."""
    return "\n".join(PAPERS[key].bibtex(key) for key in sorted(set(keys)))


def bibitems(keys: Iterable[str]) -> str:
    """The same papers as a `thebibliography` environment, for a document that needs no BibTeX run; "" for none."""
    items = "".join(PAPERS[key].bibitem(key) for key in sorted(set(keys)))
    return f"\\begin{{thebibliography}}{{99}}\n{items}\\end{{thebibliography}}\n" if items else ""
