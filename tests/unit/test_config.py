"""Configurations: every combination composes, sweeps expand, keys and types are checked."""

import pytest
from omegaconf import OmegaConf

from bench.commands import arguments
from bench.config import BACKBONES, TRACKS, configurations
from bench.spec import resolve
from protocols.errors import InputError


@pytest.mark.parametrize("track", TRACKS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_track_and_backbone_composes_completely(track, backbone):
    (config,) = configurations(["method=mib", "protocol=voc_10-1", f"track={track}", f"backbone={backbone}"])
    assert not OmegaConf.missing_keys(config)
    assert (config.track, config.backbone) == (track, backbone)
    assert config.network.name == backbone + ("-tiny" if track == "demo" else "")
    assert config.evaluation.size == config.train.crop == (64 if track == "demo" else 512)
    assert config.data.name == ("shapes" if track == "demo" else None)


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
