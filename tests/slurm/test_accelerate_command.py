"""The command line of a stage that is launched with a file of its own for accelerate."""

import sys

import pytest

from slurm.command import node_command, stage_command
from slurm.job import Job, read_launch, write_launch
from slurm.resources import Resources

FILE = "/somewhere/zero3.yaml"


@pytest.mark.parametrize("gpus", [0, 1, 2])
def test_stage_with_a_config_is_launched_by_accelerate_with_one_process_too(tmp_path, gpus):
    command = stage_command(Job("train_sft", tmp_path, Resources(gpus=gpus, accelerate=FILE)))
    assert command[:5] == [sys.executable, "-m", "accelerate.commands.launch", "--config_file", FILE]
    assert command[command.index("--num_processes") + 1] == str(max(1, gpus))
    assert "--multi_gpu" not in command and command[-3:] == ["-m", "tasks.train_sft", str(tmp_path)]


def test_config_of_a_job_on_several_nodes_reaches_each_of_them(tmp_path):
    write_launch(Job("train_sft", tmp_path, Resources(nodes=2, gpus=4, accelerate=FILE)), 3)
    job, _ = read_launch(tmp_path)
    command = node_command(job, 1, "10.0.0.7", "20123")
    assert command[3:5] == ["--config_file", FILE]
    options = {
        "num_machines": "2",
        "machine_rank": "1",
        "num_processes": "8",
        "deepspeed_multinode_launcher": "standard",
    }
    assert {name: command[command.index(f"--{name}") + 1] for name in options} == options


def test_what_a_config_says_of_one_run_does_not_win_over_the_launcher(tmp_path):
    """accelerate's own reader, given a file that knows better on every point."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    file = tmp_path / "theirs.yaml"
    file.write_text(
        "distributed_type: DEEPSPEED\nmixed_precision: fp16\nnum_processes: 64\nnum_machines: 8\nmachine_rank: 5\n"
        "main_process_ip: 10.9.9.9\nmain_process_port: 1\ngpu_ids: '7'\ndynamo_config: {dynamo_backend: INDUCTOR}\n"
        "deepspeed_config: {zero_stage: 2, deepspeed_multinode_launcher: pdsh}\n"
    )
    job = Job("train_sft", tmp_path, Resources(nodes=2, gpus=4, accelerate=str(file)))
    given = node_command(job, 1, "10.0.0.7", "20123")[3:]
    read, _, _ = _validate_launch_command(launch_command_parser().parse_args(given))
    assert (read.num_processes, read.num_machines, read.machine_rank) == (8, 2, 1)
    assert (read.main_process_ip, read.main_process_port, read.gpu_ids) == ("10.0.0.7", 20123, "all")
    assert (read.mixed_precision, read.dynamo_backend, read.deepspeed_multinode_launcher) == ("no", "no", "standard")
    assert read.use_deepspeed and read.zero_stage == 2 and not read.multi_gpu
