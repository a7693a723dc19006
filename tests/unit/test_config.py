"""Configurations: every combination composes, sweeps expand, keys and types are checked."""

import pytest
from omegaconf import OmegaConf

from bench.cli import parse
from bench.commands import arguments
from bench.config import BACKBONES, TRACKS, configurations
from bench.spec import resolve
from protocols.errors import InputError


@pytest.mark.parametrize("track", TRACKS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_track_and_backbone_composes_completely(track, backbone):
    if track == "paper" and backbone == "segmenter":
        with pytest.raises(InputError, match="published with backbone=deeplab"):
            configurations(["method=mib", "protocol=voc_10-1", "track=paper", "backbone=segmenter"])
        return
    (config,) = configurations(["method=mib", "protocol=voc_10-1", f"track={track}", f"backbone={backbone}"])
    assert not OmegaConf.missing_keys(config)
    assert (config.track, config.backbone) == (track, backbone)
    if track == "paper":
        assert (config.network.name, config.train.void, config.mib.kd) == ("deeplab", "background", 10)
        return
    assert config.network.name == backbone + ("-tiny" if track == "demo" else "")
    assert config.evaluation.size == config.train.crop == (64 if track == "demo" else 512)
    assert config.data.name == ("shapes" if track == "demo" else None)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_demo_has_a_recipe_for_each_data_set(backbone, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("dataset: ade\nclasses_per_step: [100, 25, 25]\n")
    given = ["method=mib", f"protocol=voc_10-1,ade_100-10,'{path}'", "track=demo", f"backbone={backbone}"]
    voc, ade, own = configurations(given)
    assert (voc.data.train_images, voc.data.val_images) == (2000, 300)
    assert (ade.data.train_images, ade.data.val_images) == (own.data.train_images, own.data.val_images) == (4000, 600)
    assert ade.network == voc.network and ade.train.crop == 64
    assert ade.train.base.iterations == own.train.base.iterations >= voc.train.base.iterations
    (changed,) = configurations(["method=mib", "protocol=ade_100-10", "track=demo", "data.train_images=7"])
    assert (changed.data.train_images, changed.data.val_images) == (7, 600)


def test_lbd_does_not_run_where_its_clip_cannot_read_the_class_names():
    def reason(*overrides):
        return resolve(configurations(["method=lbd", *overrides])[0]).unsupported

    assert reason("protocol=voc_10-1", "track=demo") is None
    assert "no word 'wall' nor 144 others" in reason("protocol=ade_100-10", "track=demo")
    assert reason("protocol=ade_100-10") is None  # OpenAI's CLIP reads anything
    (other,) = configurations(["method=mib", "protocol=ade_100-10", "track=demo"])
    assert resolve(other).unsupported is None


def test_defaults_are_those_of_the_unified_track():
    spec = resolve(configurations(["method=finetune", "protocol=voc_15-5"])[0])
    assert (spec.config.track, spec.config.backbone, spec.config.data.name) == ("unified", "segmenter", "voc")
    assert (spec.protocol.setting, spec.seed) == ("overlapped", 0)


def test_sweeps_make_a_run_of_every_combination_in_order():
    configs = configurations(["method=finetune,mib", "protocol=voc_10-1", "seed=0,1", "track=demo", "mib.kd=1,10"])
    seen = [(config.method, config.seed, config.mib.kd) for config in configs]
    assert seen == [(m, s, k) for m in ("finetune", "mib") for s in (0, 1) for k in (1.0, 10.0)]


def test_the_commands_know_the_same_tracks_and_backbones():
    assert (arguments.TRACKS, arguments.BACKBONES) == (TRACKS, BACKBONES)


def test_a_variant_and_the_options_it_stands_for_are_one_recipe():
    def recipe(*overrides):
        return resolve(configurations(["protocol=voc_10-1", "track=demo", *overrides])[0]).method_recipe

    assert recipe("method=mib-no_init") == recipe("method=mib", "mib.background_init=false") != recipe("method=mib")


def test_an_unknown_rule_of_a_method_is_refused_before_anything_starts():
    (config,) = configurations(["method=plop", "protocol=voc_10-1", "track=demo", "plop.thresholds=median"])
    with pytest.raises(InputError, match="unknown plop.thresholds 'median'"):
        resolve(config)


def test_options_left_open_take_the_value_of_the_data_set():
    def options(*overrides):
        return resolve(configurations(["track=demo", *overrides])[0]).method_recipe["options"]

    assert options("method=mbs", "protocol=ade_100-50")["od"] == 50
    assert options("method=mbs", "protocol=voc_10-1")["od"] == 25
    assert options("method=mbs", "protocol=ade_100-50", "mbs.od=1")["od"] == 1


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("mib.kd=high", "mib.kd"),
        ("train.batch=many", "train.batch"),
        ("nothing=1", "unknown key 'nothing'"),
        ("train.nothing=1", "unknown key 'train.nothing'"),
        ("train.base.rl=1", "unknown key 'train.base.rl': did you mean 'train.base.lr'"),
        ("mib.kd=[", "mib.kd=["),
        ("train.scale=[2,1]", "train.scale"),
        ("train.warmup=1.5", "train.warmup"),
        ("seed=-1", "seed=-1"),
        ("evaluation.split=test", "unknown evaluation.split 'test'"),
        ("setting=sometimes", "unknown setting 'sometimes'"),
        ("order=zz", "zz"),
    ],
)
def test_a_wrong_override_is_one_line_that_names_it(override, expected):
    with pytest.raises(InputError) as caught:
        for config in configurations(["method=mib", "protocol=voc_10-1", "track=demo", override]):
            resolve(config)
    assert expected in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["voc_10-1", "my file.py:Class", "it's/here.yaml", "a,b", "../x=y"])
def test_values_reach_hydra_unharmed(value):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from bench.config import expand

    (run,) = expand([f"method={arguments.quoted(value)}"])
    (parsed,) = OverridesParser.create().parse_overrides(run)
    assert str(parsed.value()) == value


PUBLISHED = {  # method, protocol -> what its authors published (batch, epochs, rates, void, weights)
    ("mib", "voc_15-5"): (24, 30, 30, 0.01, 0.001, "background", {"kd": 10}),
    ("mib", "voc_15-1"): (24, 30, 30, 0.01, 0.001, "background", {"kd": 100}),
    ("mib", "ade_100-10"): (24, 60, 60, 0.01, 0.001, "background", {"kd": 10}),
    ("ilt", "voc_15-1"): (24, 30, 30, 0.01, 0.001, "background", {"kd": 100, "de": 100}),
    ("plop", "voc_15-1"): (24, 30, 30, 0.01, 0.001, "ignore", {"pod": 0.01, "pod_logits": 0.0005}),
    ("plop", "voc_10-1"): (24, 30, 10, 0.01, 0.001, "ignore", {"pod": 0.01, "thresholds": "official"}),
    ("plop", "ade_100-50"): (24, 60, 60, 0.01, 0.001, "ignore", {"pod": 0.001, "pod_logits": 0.00001}),
    ("mbs", "voc_10-1"): (16, 32, 32, 1e-3, 1e-4, "ignore", {"od": 25}),
    ("mbs", "ade_100-50"): (8, 64, 64, 1e-3, 5e-4, "ignore", {"od": 50}),
}


@pytest.mark.parametrize(("run", "expected"), PUBLISHED.items(), ids=lambda value: "-".join(map(str, value[:2])))
def test_the_paper_track_is_what_was_published(run, expected):
    method, protocol = run
    (config,) = configurations([f"method={method}", f"protocol={protocol}", "track=paper"])
    train, options = config.train, config[method]
    *values, weights = expected
    found = (train.batch, train.base.epochs, train.increment.epochs, train.base.lr, train.increment.lr, train.void)
    assert found == tuple(values)
    assert {name: options[name] for name in weights} == weights
    assert config.network.name == ("segmenter-augreg" if method == "mbs" else "deeplab")
    assert train.padding == ("background" if method == "mbs" else "ignore")
    assert train.augmentation == ("scale_crop" if method == "mbs" else "resized_crop")


def test_the_paper_track_of_lbd_is_ours_and_composes_on_clip():
    """No value is known from the paper: what MBS publishes of length and batch, the rest ours."""
    (config,) = configurations(["method=lbd", "protocol=voc_10-1", "track=paper"])
    train = config.train
    assert (train.batch, train.base.epochs, train.increment.epochs, train.crop) == (16, 32, 32, 512)
    assert (train.optimiser, train.base.lr, train.increment.lr, train.encoder_lr) == ("adamw", 1e-4, 1e-5, 0.1)
    spec = resolve(config)
    assert spec.network.name == "clip" and config.evaluation.size == 512
    (config,) = configurations(["method=lbd", "protocol=ade_100-10", "track=paper"])
    assert (config.train.batch, config.train.base.epochs, config.train.increment.lr) == (8, 64, 5e-5)


def test_the_paper_track_of_a_file_is_that_of_its_data_set(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("dataset: ade\nclasses_per_step: [100, 25, 25]\n")
    (config,) = configurations(["method=mbs", f"protocol='{path}'", "track=paper"])
    assert (config.train.batch, config.train.base.epochs, config.mbs.od) == (8, 64, 50)


def test_a_value_given_with_the_paper_track_wins_over_the_published_one():
    (config,) = configurations(["method=mib", "protocol=voc_15-1", "track=paper", "mib.kd=7", "train.batch=2"])
    assert (config.mib.kd, config.train.batch, config.train.base.epochs) == (7, 2, 30)


def test_a_method_without_a_published_recipe_is_refused_in_the_paper_track(tmp_path):
    path = tmp_path / "own.py"
    path.write_text("from methods.finetune import Finetune\n\nclass Own(Finetune):\n    published = ()\n")
    with pytest.raises(InputError, match="no published recipe"):
        configurations([f"method='{path}:Own'", "protocol=voc_15-1", "track=paper"], [f"{path}:Own"])


def test_a_tilde_in_a_path_is_the_home_folder(monkeypatch, tmp_path):
    home = tmp_path / "some one"
    monkeypatch.setenv("HOME", str(home))
    paths = ["data.root=~/data", "store=~", "network.pretrained=~/w.safetensors", "my_method.rule=~/x"]
    command = ["plan", "--methods", "mib", "--protocol", "voc_10-1", *paths]
    given = arguments.overrides(parse(command))[3:]
    assert given == [
        f"data.root='{home}/data'",
        f"store='{home}'",
        f"network.pretrained='{home}/w.safetensors'",
        "my_method.rule=~/x",
    ]
    (config,) = configurations(["method=mib", "protocol=voc_10-1", *given[:3]])
    assert (config.data.root, config.store) == (f"{home}/data", str(home))


@pytest.mark.parametrize("command", [["report"], ["cache", "list"], ["data", "check", "voc"], ["data", "index", "ade"]])
def test_a_tilde_in_store_is_the_home_folder(monkeypatch, tmp_path, command):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse([*command, "--store", "~/runs"]).store == tmp_path / "runs"
