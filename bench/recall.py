"""A stored run as a plan again: what is needed to look at its cached networks."""

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

import methods
from bench.plan import RunPlan, make_plan
from bench.spec import resolve
from bench.workspace import workspace_of
from protocols import InputError
from results.schema import Run


def plan_of(run: Run) -> RunPlan:
    """The plan of a stored run, with the keys of its steps in the cache of its store.

    InputError: predictions from elsewhere, a method or data that are gone, or anything that has changed since, so
    that the plan would be of another run.
    """
    name, stored = run.manifest["run"], run.manifest.get("config")
    if stored is None:
        raise InputError(f"{name} has no configuration, its predictions came from elsewhere: no network can be loaded")
    found = methods.get(stored["method"])
    try:
        options = OmegaConf.merge(OmegaConf.structured(found.method.Config), stored[found.name])
        spec = resolve(OmegaConf.create({**stored, "store": str(run.path.parent), found.name: options}))
    except (OmegaConfBaseException, KeyError) as fault:
        raise InputError(f"{name} was made by another version, whose options differ: run its command again") from fault
    plan = make_plan(spec, workspace_of(spec.config.store))
    if plan.run_id != name:
        raise InputError(
            f"{name} would be {plan.run_id} today: code, data or weights have changed; run its command again"
        )
    return plan
