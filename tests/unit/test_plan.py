"""Keys: equal training has equal keys, whatever it is called; everything that changes training changes them."""

from copy import copy
from dataclasses import fields

import pytest

import methods
from bench.config import configurations
from bench.plan import cut_short, make_plan
from bench.spec import RunSpec, resolve
from bench.workspace import Workspace
from protocols import InputError
from tests.trees import write_voc

SMALL = ["track=demo", "backbone=deeplab", "train.crop=32", "data.train_images=60", "data.val_images=10"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def plan(workspace):
    def make(method="mib", protocol="voc_10-5", *overrides):
        (config,) = configurations([f"method={method}", f"protocol={protocol}", *SMALL, *overrides])
        return make_plan(resolve(config), workspace)

    return make


def keys(run):
    return [step.key for step in run.steps]


def test_methods_with_equal_base_recipes_share_step_0_alone(plan):
    finetune, mib = keys(plan("finetune")), keys(plan("mib"))
    assert finetune[0] == mib[0]
    assert not set(finetune[1:]) & set(mib[1:])


def test_protocols_with_the_same_first_classes_share_step_0_alone(plan):
    one, other = keys(plan("mib", "voc_15-5")), keys(plan("mib", "voc_15-1"))
    assert one[0] == other[0]
    assert not set(one[1:]) & set(other[1:])
    assert keys(plan("mib", "voc_10-5"))[0] != one[0]


def test_joint_is_one_step_shared_by_every_protocol_of_its_order(plan):
    assert keys(plan("joint", "voc_15-5")) == keys(plan("joint", "voc_10-1"))
    assert [step.position for step in plan("joint", "voc_10-1").steps] == [10]
    assert keys(plan("joint", "voc_10-1")) != keys(plan("joint", "voc_10-1", "order=b"))


def test_methods_see_nothing_of_the_future(plan):
    for step in plan().steps:
        assert not hasattr(step.step, "future")
        assert set(step.step.names) == set(step.step.seen)


FIVE, THREE = ("finetune", "lwf", "ilt", "mib", "plop"), ("voc_15-5", "voc_15-1", "voc_10-1")


def test_fifteen_runs_of_the_unified_track_need_two_base_trainings(plan):
    """Steps: 2, 6 and 11 a method. Of 15 first steps two are different, that of 15 classes and that of 10; every
    method trains its own 1 + 5 + 10 increments: 2 + 5 x 16 = 82 of 95."""
    unified = ["track=unified", "network.pretrained=none", "data.name=shapes"]
    runs = [plan(method, protocol, *unified) for method in FIVE for protocol in THREE]
    assert [len(run.steps) for run in runs] == [2, 6, 11] * 5
    assert len({run.steps[0].base_key for run in runs}) == 2
    assert len({step.base_key or step.key for run in runs for step in run.steps}) == 82
    assert len({run.run_id for run in runs}) == 15


TRAINING = [  # (override, steps that it changes)
    ("seed=1", "all"),
    ("train.optimiser=sgd", "all"),
    ("train.momentum=0.5", "all"),
    ("train.weight_decay=0.5", "all"),
    ("train.encoder_lr=0.5", "all"),
    ("train.schedule=constant", "all"),
    ("train.power=0.5", "all"),
    ("train.warmup=0.5", "all"),
    ("train.batch=3", "all"),
    ("train.accumulate=2", "all"),
    ("train.precision=bf16", "all"),
    ("train.crop=64", "all"),
    ("train.scale=[0.9,1.1]", "all"),
    ("train.augmentation=resized_crop", "all"),
    ("train.flip=0.1", "all"),
    ("train.padding=background", "all"),
    ("train.void=background", "all"),
    ("train.base.lr=0.5", "all"),
    ("train.base.iterations=7", "all"),
    ("train.base.epochs=7", "all"),
    ("train.increment.lr=0.5", "later"),
    ("train.increment.iterations=7", "later"),
    ("train.increment.epochs=7", "later"),
    ("mib.kd=3", "later"),
    ("mib.unbiased_ce=false", "later"),
    ("mib.unbiased_kd=false", "later"),
    ("mib.background_init=false", "later"),
    ("network.name=deeplab", "all"),
    ("data.train_images=61", "all"),
    ("data.image_size=48", "all"),
    ("order=b", "all"),
    ("setting=disjoint", "all"),
    ("backbone=segmenter", "all"),
    ("network.pretrained={weights}", "all"),
    ("evaluation.split=dev", "all"),
]
NOT_TRAINING = [
    "device=cpu", "threads=1", "workers=2", "channels_last=false", "compile=true", "checkpoint_seconds=1",
    "evaluation.batch=3", "evaluation.size=48", "data.val_images=11", "data.root=elsewhere",
]  # fmt: skip
ELSEWHERE = ["data.name=voc", "store=elsewhere"]  # tests of their own


@pytest.mark.parametrize(("override", "changed"), TRAINING, ids=[override for override, _ in TRAINING])
def test_what_changes_training_changes_the_key(plan, tmp_path, override, changed):
    (tmp_path / "weights.safetensors").write_bytes(b"any")
    override = override.format(weights=tmp_path / "weights.safetensors") if "{" in override else override
    usual, other = plan(), plan("mib", "voc_10-5", override)
    same = [one == two for one, two in zip(keys(usual), keys(other), strict=True)]
    assert same == ([False] * 3 if changed == "all" else [True, False, False])
    assert usual.recipe != other.recipe or override.startswith("seed")
    assert usual.run_id != other.run_id


@pytest.mark.parametrize("override", NOT_TRAINING)
def test_what_does_not_change_training_keeps_the_key(plan, override):
    assert keys(plan("mib", "voc_10-5", override)) == keys(plan())


def test_the_store_is_in_no_key(tmp_path):
    (config,) = configurations(["method=mib", "protocol=voc_10-5", *SMALL])
    stores = [Workspace(tmp_path / name) for name in ("one", "other")]
    one, other = (make_plan(resolve(config), store) for store in stores)
    assert keys(one) == keys(other) and one.run_id == other.run_id


def voc_plan(root, *overrides):
    """The plan of a run on a tree of made-up images: of the evaluated ones, those with more classes are larger."""
    classes = {f"train_{i}": (1 + i, 1 + (i + 3) % 20) for i in range(20)}
    if not root.exists():
        write_voc(root, classes, {f"val_{i}": tuple(range(1, 2 + (5 * i) % 7)) for i in range(7)})
    tree = ["data.name=voc", f"data.root={root}"]
    (config,) = configurations(["method=mib", "protocol=voc_10-5", *SMALL[:3], *tree, *overrides])
    return make_plan(resolve(config), Workspace(root.parent / "store"))


def test_other_data_have_other_keys(plan, tmp_path):
    one, other = plan(), voc_plan(tmp_path / "voc")
    assert not set(keys(one)) & set(keys(other)) and one.run_id != other.run_id


@pytest.mark.parametrize("batch", [1, 2])
def test_a_run_cut_short_evaluates_the_largest_images_where_they_stay_whole(tmp_path, batch):
    whole = voc_plan(tmp_path / "voc", "evaluation.size=native", f"evaluation.batch={batch}")
    short = cut_short(whole, 2, 1)
    data, chosen = whole.evaluation.data, short.evaluation_view.indices.tolist()
    widths = {index: data.shape(index)[1] for index in whole.evaluation_view.indices.tolist()}
    assert sorted(widths[i] for i in chosen) == sorted(widths.values())[-2 * batch :]
    squares = cut_short(voc_plan(tmp_path / "voc", f"evaluation.batch={batch}"), 2, 1)
    assert squares.evaluation_view.indices.tolist() == whole.evaluation_view.indices.tolist()[: 2 * batch]


def test_every_option_is_in_one_of_the_two_lists():
    """A new option must be put where it belongs."""
    from hydra.core.config_store import ConfigStore

    from bench.config import _keys, register

    register()
    others = set(methods.names()) - {"mib"}  # the test below is about them
    known = {key for key in _keys(ConfigStore.instance().load("schema.yaml").node) if key.split(".")[0] not in others}
    listed = {
        override.split("=")[0] for override in [*NOT_TRAINING, *ELSEWHERE, *(override for override, _ in TRAINING)]
    }
    # A protocol is its steps (tested above), a method its recipe (below), and a track what it sets.
    assert known == listed | {"method", "protocol", "track"}


OPTIONS = [(name, option.name) for name in methods.names() for option in fields(methods.get(name).method.Config)]


def another(value):
    """A value of the same kind."""
    if isinstance(value, bool):
        return not value
    return f"{value}x" if isinstance(value, str) else (value or 0) + 1


@pytest.mark.parametrize(("name", "option"), OPTIONS)
def test_every_option_of_every_method_is_in_its_keys(workspace, plan, name, option):
    """In those of its increments always; in that of step 0 where its base recipe or the end of step 0 has it."""
    usual = plan(name)
    spec = usual.spec
    options = copy(spec.options)  # not `replace`, which would check the value
    setattr(options, option, another(getattr(options, option)))
    other = make_plan(RunSpec(spec.config, spec.found, options, spec.protocol), workspace)
    same = [one == two for one, two in zip(keys(usual), keys(other), strict=True)]
    at_the_base = other.spec.base != spec.base or usual.steps[0].key != usual.steps[0].base_key
    assert same == [not at_the_base, *[False] * (len(same) - 1)]
    assert usual.recipe != other.recipe and usual.run_id != other.run_id


@pytest.mark.parametrize("override", ["evaluation.size=48", "evaluation.size=native", "data.val_images=11"])
def test_what_changes_evaluation_changes_counts_and_recipe_but_no_training(plan, override):
    usual, other = plan(), plan("mib", "voc_10-5", override)
    assert all(one.counts_key != two.counts_key for one, two in zip(usual.steps, other.steps, strict=True))
    assert usual.recipe != other.recipe


def test_epochs_become_iterations_as_published(plan):
    run = plan("mib", "voc_10-5", "train.base.iterations=null", "train.base.epochs=3", "train.batch=8")
    images = len(run.steps[0].view)
    assert run.steps[0].iterations == 3 * (images // 8)


RULES = """
from methods.finetune import Finetune


class Cautious(Finetune):
    def decide(self, logits):
        return logits.argmax(1) * (logits.max(1).values > 0)


class Whole(Finetune):
    def predict(self, batch):
        return self.logits(batch.images).argmax(1)
"""


def test_a_decision_of_its_own_is_in_the_keys_of_counts_and_whole_images_need_it_as_one(workspace, tmp_path):
    (tmp_path / "rules.py").write_text(RULES)

    def spec(name, *overrides):
        reference = f"{tmp_path / 'rules.py'}:{name}"
        (config,) = configurations([f"method='{reference}'", "protocol=voc_10-5", *SMALL, *overrides], [reference])
        return resolve(config)

    cautious = make_plan(spec("Cautious"), workspace)
    (config,) = configurations(["method=finetune", "protocol=voc_10-5", *SMALL])
    usual = make_plan(resolve(config), workspace)
    assert cautious.steps[0].key == usual.steps[0].key and cautious.steps[0].counts_key != usual.steps[0].counts_key
    assert spec("Cautious", "evaluation.size=native").unsupported is None
    assert spec("Whole").unsupported is None
    assert "`decide`" in spec("Whole", "evaluation.size=native").unsupported


def test_a_run_cut_short_has_the_same_steps_under_keys_of_its_own(plan):
    whole = plan()
    short = cut_short(whole, 2, 1)
    assert [step.due for step in short.steps] == [2, 2, 2]
    assert [step.iterations for step in short.steps] == [step.iterations for step in whole.steps]  # the schedule's
    own, real = (
        {key for step in run.steps for key in (step.key, step.base_key, step.counts_key) if key}
        for run in (short, whole)
    )
    assert len(own) == len(real) and not own & real
    assert short.steps[0].key == short.steps[0].base_key  # what is shared stays so
    assert len(plan("mib", "voc_10-5", "evaluation.batch=3").evaluation_view) == 10
    few = cut_short(plan("mib", "voc_10-5", "evaluation.batch=3"), 2, 1)
    assert len(few.evaluation_view) == len(few.evaluation.rows) == 6
    assert len(cut_short(plan("mib", "voc_10-5", "evaluation.batch=3"), 2, 2).evaluation_view) == 10  # of 12


def test_a_wrong_size_of_evaluation_is_refused():
    (config,) = configurations(["method=mib", "protocol=voc_10-5", *SMALL, "evaluation.size=whole"])
    with pytest.raises(InputError, match="evaluation.size=whole: give pixels, or native"):
        resolve(config)
