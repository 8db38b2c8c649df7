"""What a user means by REF: a fingerprint's start, stage/start, a run id, `run_id:stage name`, or `latest`."""

from pathlib import Path

from tasks.core.errors import UserError
from tasks.core.store.runs import Run, read_run, run_ids
from tasks.core.store.store import Store

MAX_CANDIDATES = 10


def find_artifact(store: Store, ref: str) -> Path:
    """The one artifact that `ref` names. Raises UserError with the candidates when it is none or several."""
    found = find(store, ref)
    if isinstance(found, Path):
        return found
    names = ", ".join(f"{ref}:{stage.name}" for stage in found.stages)
    raise UserError(f"{ref!r} is a run; name one of its stages: {names}.")


def find(store: Store, ref: str) -> Path | Run:
    """The artifact or the run that `ref` names. Raises UserError with the candidates when it is none or several."""
    run_ref, colon, stage_name = ref.partition(":")
    if colon:
        return _stage_of_run(store, _find_run(store, run_ref, ref), stage_name)
    if ref == "latest" or ref in run_ids(store.root):
        return _find_run(store, ref, ref)
    stage, slash, start = ref.rpartition("/")
    artifacts = [
        path for path in store.artifacts() if path.name.startswith(start) and (not slash or path.parent.name == stage)
    ]
    runs = [] if slash else [run_id for run_id in run_ids(store.root) if run_id.startswith(ref)]
    if len(artifacts) + len(runs) == 1:
        return artifacts[0] if artifacts else store.read_run(runs[0])
    candidates = [f"{path.parent.name}/{path.name}" for path in artifacts] + [f"run {run_id}" for run_id in runs]
    raise _not_one(store, ref, candidates)


def _find_run(store: Store, run_ref: str, ref: str) -> Run:
    if run_ref == "latest":
        if not (runs := store.runs()):
            raise UserError(f"there is no run in {store.root} yet: start one with `r1 run recipes/quickstart.yaml`.")
        return runs[0]
    candidates = [run_id for run_id in run_ids(store.root) if run_id.startswith(run_ref)]
    if run_ref in candidates or len(candidates) == 1:
        return read_run(store.root, run_ref if run_ref in candidates else candidates[0])
    raise _not_one(store, ref, [f"run {run_id}" for run_id in candidates])


def _stage_of_run(store: Store, run: Run, stage_name: str) -> Path:
    for stage in run.stages:
        if stage.name == stage_name:
            path = store.path(stage.stage, stage.fingerprint)
            if not path.exists():
                raise UserError(
                    f"stage {stage_name!r} of run {run.run_id} ({stage.state}) has no artifact {stage.stage}/"
                    f"{stage.fingerprint} in {store.root}: run the recipe again to build it."
                )
            return path
    names = ", ".join(stage.name for stage in run.stages)
    raise UserError(f"run {run.run_id} has no stage {stage_name!r}; its stages are: {names}.")


def _not_one(store: Store, ref: str, candidates: list[str]) -> UserError:
    if not candidates:
        return UserError(
            f"{ref!r} names nothing in {store.root}. Give the start of a fingerprint, stage/fingerprint, a run id, "
            "run_id:stage name, or `latest`; `r1 ls` lists what there is."
        )
    shown = ", ".join(candidates[:MAX_CANDIDATES]) + (", …" if len(candidates) > MAX_CANDIDATES else "")
    return UserError(f"{ref!r} could be any of {len(candidates)}: {shown}. Give more of it.")
