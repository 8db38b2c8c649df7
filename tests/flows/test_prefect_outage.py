"""What a deployment goes through: its server dies in the middle of a run, its worker dies, its records are shared."""

import json
import os
import signal

import pytest
from postgres import FOUND, REASON, postgres
from prefect_process import PrefectCommand, PrefectServer, flow_run_id
from r1_process import end, stage_pids, toy_checkpoints, wait_until

PAIR = """\
name: {name}
description: A test
seed: {seed}
stages:
  first: {{stage: toy, num_steps: {num_steps}, step_s: 0.1}}
  second: {{stage: toy, source: first, num_steps: 5}}
"""


class Deployed:
    """A server, a worker and the deployments of prefect.yaml."""

    def __init__(self, root, database=None):
        self.root = root
        (root / "home").mkdir()
        self.server = PrefectServer(root / "home", database)
        self.server.start()
        self.prefect = PrefectCommand(self.server.url, root / "store")
        self.prefect.environment |= {"PREFECT_HOME": str(root / "home")}
        self.worker = self.prefect.start_worker(root / "worker.log")

    def run(self, name, num_steps):
        """Start a run of two stages; returns its flow run's id."""
        recipe = self.root / f"{name}.yaml"
        recipe.write_text(PAIR.format(name=name, seed=len(name), num_steps=num_steps))
        parameters = json.dumps({"recipe": str(recipe)})
        return flow_run_id(self.prefect("deployment", "run", "reproduce/quickstart", "--params", parameters))

    def stages(self, name):
        """The states of the newest run's stages, as the store has them; none before it began."""
        runs = [json.loads(path.read_text()) for path in (self.root / "store").glob(f"runs/{name}-*/run.json")]
        newest = max(runs, key=lambda run: run["started_at"], default={"stages": []})
        return [stage["state"] for stage in newest["stages"]]

    def wait(self, name, *states):
        wait_until(lambda: self.stages(name) == list(states), 120, f"the stages of {name} to be {states}")

    def wait_until_completed(self, flow_run):
        """The server's own word."""
        wait_until(lambda: "type=StateType.COMPLETED" in self.prefect("flow-run", "inspect", flow_run), 60, "its end")

    def end(self):
        end(self.worker)
        self.server.end()


@pytest.fixture
def deployed(tmp_path):
    deployed = Deployed(tmp_path)
    yield deployed
    deployed.end()


@pytest.mark.slow
def test_run_outlives_a_killed_server_and_a_killed_worker(deployed):
    """The first stage ends while there is no server. A killed worker takes its run with it, but not what the run had
    built or was about to: the next one, on the worker that was started again, goes on from there."""
    during = deployed.run("during", num_steps=80)
    deployed.wait("during", "running", "pending")
    deployed.server.kill()
    deployed.wait("during", "built", "pending")
    deployed.server.start()
    deployed.wait("during", "built", "built")
    deployed.wait_until_completed(during)

    deployed.run("orphan", num_steps=300)
    deployed.wait("orphan", "running", "pending")
    wait_until(lambda: toy_checkpoints(deployed.prefect.store), 60, "its first step")
    os.kill(deployed.worker.pid, signal.SIGKILL)
    deployed.worker.wait()
    wait_until(lambda: not stage_pids(deployed.prefect.store), 60, "its stage to end")
    deployed.worker = deployed.prefect.start_worker(deployed.root / "worker2.log")
    deployed.wait_until_completed(deployed.run("orphan", num_steps=300))
    first, second = deployed.stages("orphan")
    assert first in ("built", "cached") and second == "built"


@pytest.mark.slow
@pytest.mark.skipif(FOUND is None, reason=REASON)
def test_deployment_runs_with_its_records_on_postgres(tmp_path):
    with postgres() as address:
        deployed = Deployed(tmp_path, address)
        try:
            deployed.wait_until_completed(deployed.run("shared", num_steps=5))
            assert not list((tmp_path / "home").glob("*.db")), "SQLite was used"
        finally:
            deployed.end()
