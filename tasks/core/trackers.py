"""Where a training's curves are shown while it runs: SwanLab always, and what the recipe's `report_to` asks for.

SwanLab writes to OUT/swanlog, offline unless the environment says SWANLAB_MODE=online; then it takes the key from
SWANLAB_API_KEY (or from `swanlab login`), and the server of one's own from SWANLAB_API_HOST and SWANLAB_WEB_HOST.
Other trackers are transformers' integrations with settings of their own in the environment (WANDB_*, MLFLOW_*); what
TensorBoard, Weights & Biases and MLflow write to the disk goes to OUT/tracking unless their variables name a place.
"""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.core.errors import TransientError, UserError
from tasks.core.spelling import nearest

if TYPE_CHECKING:
    from transformers import Trainer

MODES = {"offline": "offline", "online": "online", "cloud": "online", "disabled": "disabled"}  # cloud: as it was called
TRACKERS = ("clearml", "codecarbon", "comet_ml", "dvclive", "mlflow", "neptune", "tensorboard", "wandb")
"""What `report_to` takes; each is the name of the package that it needs."""
PLACES = {
    "tensorboard": ("TENSORBOARD_LOGGING_DIR", "{}/tensorboard"),
    "wandb": ("WANDB_DIR", "{}"),
    "mlflow": ("MLFLOW_TRACKING_URI", "sqlite:///{}/mlflow.db"),
}
"""By tracker: the variable that says where it writes, and our value where the user's environment has none."""


def start_swanlab(out: Path, name: str, block: Mapping[str, Any]) -> None:
    """Open a SwanLab run whose files stay in OUT/swanlog; SWANLAB_MODE=online sends them to a server as well.

    `block` is shown as its settings. What SwanLab would look up about the machine, the command line and git is left
    to the store's record, which keeps secrets out; and the terminal has its own log.
    Raises UserError for a mode that is none and an online run without a key; TransientError when the server refuses
    or does not answer.
    """
    if os.environ.get("RANK", "0") != "0":
        return
    import swanlab

    mode = _mode()
    log_dir = out / "swanlog"
    log_dir.mkdir(exist_ok=True)
    probe = swanlab.Settings.Probe(
        hardware=False, runtime=False, requirements=False, git=False, swanlab=False, monitor=False
    )
    settings = swanlab.Settings(probe=probe, terminal=swanlab.Settings.Terminal(proxy_type="none"), interactive=False)
    if mode == "online" and not settings.api_key:
        raise UserError(
            "SWANLAB_MODE is online, but there is no API key: set SWANLAB_API_KEY in the environment of the run (your "
            "account's settings show it), with SWANLAB_API_HOST for a server of your own, or leave SWANLAB_MODE out."
        )
    values = {"log_dir": str(log_dir), "project": "r1flow", "name": name, "config": dict(block), "settings": settings}
    if mode != "online":
        swanlab.init(mode=mode, **values)
        return
    try:
        swanlab.init(mode=mode, **values)
    except (OSError, RuntimeError, swanlab.exceptions.AuthenticationError) as error:  # requests' errors are OSErrors
        said = f"{type(error).__name__}: {error}".replace(settings.api_key, "***")
        raise TransientError(
            f"SwanLab at {settings.api_host} did not take the run ({said}): "
            "check SWANLAB_API_KEY, SWANLAB_API_HOST and the network, or leave SWANLAB_MODE out to write to the disk "
            "only (`swanlab sync` can send it later)."
        ) from None  # what it came from can hold the request, and so the key


def swanlab_record() -> dict[str, Any]:
    """For metrics.json: {"mode", "url" or null, "folder"} of the run that is open; nothing where none is."""
    import swanlab

    if not swanlab.has_run():
        return {}
    run = swanlab.get_run()
    folder = None if run.mode == "disabled" else "swanlog"
    return {"swanlab": {"mode": run.mode, "url": run.url if run.mode == "online" else None, "folder": folder}}


def chosen_trackers(report_to: str | Sequence[str] | None) -> list[str]:
    """What `report_to` asks for beside SwanLab."""
    asked = [report_to] if isinstance(report_to, str) else report_to or []
    return [name for name in asked if name not in ("none", "swanlab")]


def tracker_mistake(report_to: str | Sequence[str] | None) -> str | None:
    """Completes "sft.report_to ..." where it names what is no tracker."""
    for name in chosen_trackers(report_to):
        if name not in TRACKERS:
            allowed = ", ".join(TRACKERS)
            return f"names {name!r}{nearest(name, TRACKERS)}: give some of {allowed} (SwanLab is always on)"
    return None


def prepare_trackers(names: Sequence[str], out: Path) -> None:
    """Have the trackers write under OUT/tracking, which is published, and nowhere in the directory of the process."""
    for name in names:
        if name in PLACES:
            variable, place = PLACES[name]
            (out / "tracking").mkdir(exist_ok=True)
            os.environ.setdefault(variable, place.format(out / "tracking"))


def show_numbers_only(trainer: "Trainer") -> None:
    """Keep the means of nothing, None and NaN in TRL's rows, from the trackers: some end the training over them."""
    for callback in trainer.callback_handler.callbacks:
        if type(callback).__module__ == "transformers.integrations.integration_utils":
            callback.on_log = _with_numbers(callback.on_log)


def numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """`row` without the means of nothing, such as of a reward that is None for all of a batch: None or NaN."""
    return {key: value for key, value in row.items() if isinstance(value, int | float) and math.isfinite(value)}


def _with_numbers(on_log: Any) -> Any:
    def on_log_of_numbers(*given: Any, logs: Mapping[str, Any], **kwargs: Any) -> Any:
        return on_log(*given, logs=numbers(logs), **kwargs)

    return on_log_of_numbers


def _mode() -> str:
    given = os.environ.get("SWANLAB_MODE") or "offline"
    if given not in MODES:
        raise UserError(f"SWANLAB_MODE is {given!r}: set it to {', '.join(MODES)}, or leave it out (offline).")
    return MODES[given]
