"""Which of TRL's keys say how to run (not identity), which the project sets itself, and which TRL no longer has.

The rule for OPERATIONAL_KEYS is strict: two runs that differ in such a key compute the same numbers, up to what other
hardware would change anyway. In doubt a key is identity: a needless rebuild costs time, a stale hit costs the result.
Deliberately identity, although they sound operational:
- bf16, fp16, tf32, torch_compile*, use_liger_kernel, full_determinism: other rounding.
- per_device_train_batch_size, gradient_accumulation_steps, auto_find_batch_size: TRL normalises some losses per
  micro-batch, and the GRPO generation batch follows from them.
- gradient_checkpointing, activation_checkpointing and their kwargs: recomputation can draw other dropout masks.
- deepspeed, fsdp, accelerator_config, parallelism_config: their contents can set optimiser, precision and batch split.
- use_vllm, vllm_mode, vllm_model_impl, vllm_max_model_length, continuous batching: another sampler, other rollouts.
- dataloader_in_order, dataloader_drop_last, data_seed: other batches.
"""

# What the trainer writes to its log and how often.
_LOGGING = frozenset(
    {
        "logging_strategy",
        "logging_steps",  # eval_steps would follow it: trl_keys asks for eval_steps in that case
        "logging_first_step",
        "logging_nan_inf_filter",  # of the logged loss only
        "log_on_each_node",
        "log_level",
        "log_level_replica",
        "disable_tqdm",
        "report_to",
        "include_num_input_tokens_seen",
        "log_completions",
        "log_multimodal",
        "num_completions_to_print",
        "log_unique_prompts",
        "skip_memory_metrics",
        "debug",
    }
)
# When checkpoints are written. With load_best_model_at_end they decide which weights come out: see trl_identity.
CHECKPOINT_KEYS = frozenset(
    {"save_strategy", "save_steps", "save_total_limit", "save_on_each_node", "enable_jit_checkpoint"}
)
# Processes and memory that feed the trainer; the order of the batches is the sampler's and does not change.
_FEEDING = frozenset(
    {
        "dataloader_num_workers",
        "dataloader_pin_memory",
        "dataloader_persistent_workers",
        "dataloader_prefetch_factor",
        "dataloader_multiprocessing_context",
        "dataset_num_proc",
        "eval_accumulation_steps",  # when predictions leave the accelerator
        "eval_use_gather_object",
        "torch_empty_cache_steps",
        "activation_offloading",  # copies to host memory and back, bit for bit
    }
)
# The machine and its network.
_HARDWARE = frozenset({"use_cpu", "ddp_backend", "ddp_timeout", "ddp_bucket_cap_mb", "ds3_gather_for_generation"})
# Where a vLLM server listens and how much memory it takes. Whether vLLM samples at all (use_vllm) is identity.
_VLLM = frozenset(
    {
        "vllm_server_base_url",
        "vllm_server_host",
        "vllm_server_port",
        "vllm_server_timeout",
        "vllm_group_port",
        "vllm_gpu_memory_utilization",
        "vllm_tensor_parallel_size",
        "vllm_enable_sleep_mode",
    }
)
OPERATIONAL_KEYS = _LOGGING | CHECKPOINT_KEYS | _FEEDING | _HARDWARE | _VLLM

_NO_HUB = "a stage publishes to the artifact store and nowhere else; upload the finished artifact's model/ yourself"
_NO_TRACKIO = "metrics go to SwanLab's local files and to history.jsonl in the artifact"
_RESUME = "an interrupted build resumes by itself from the last checkpoint in its staging directory"
_NO_FLAG = "the stage decides whether it trains or evaluates"
# Keys that the stages set; each with the reason that the user is shown.
MANAGED_KEYS: dict[str, str] = {
    "output_dir": "the artifact store decides where a stage writes",
    "logging_dir": "the artifact store decides where a stage writes",
    "overwrite_output_dir": "an artifact is never overwritten; use `r1 run --rebuild STAGE`",
    "resume_from_checkpoint": _RESUME,
    "ignore_data_skip": _RESUME + ", and must then see the batches it would have seen",
    "restore_callback_states_from_checkpoint": _RESUME,
    "save_only_model": "without optimizer and RNG state an interrupted build could not resume to the same numbers",
    "seed": "set `seed` of the stage, or of the recipe",
    "run_name": "a run is named by its recipe and its fingerprint",
    "project": _NO_TRACKIO,
    "trackio_space_id": _NO_TRACKIO,
    "trackio_bucket_id": _NO_TRACKIO,
    "trackio_static_space_id": _NO_TRACKIO,
    "push_to_hub": _NO_HUB,
    "hub_token": "a recipe is recorded with its run, so no token may stand in it",
    "hub_private_repo": _NO_HUB,
    "hub_model_id": _NO_HUB,
    "hub_strategy": _NO_HUB,
    "hub_always_push": _NO_HUB,
    "hub_revision": _NO_HUB,
    "log_completions_hub_repo": _NO_HUB,
    "trust_remote_code": "code from a hub is never run; use a model whose architecture transformers knows",
    "reward_weights": "the weights stand beside the rewards, in the stage's `rewards:`",
    "remove_unused_columns": "the rewards read the columns `task` and `answer`, so the stage decides what stays",
    "local_rank": "the launcher sets it",
    "do_train": _NO_FLAG,
    "do_eval": _NO_FLAG,
    "do_predict": _NO_FLAG,
}

# What older recipes and tutorials use, and what to write today.
REMOVED_KEYS: dict[str, str] = {
    "warmup_ratio": "write warmup_steps, which reads a number below 1 as a share of all steps",
    "max_prompt_length": "TRL no longer truncates prompts; leave long ones out in prepare_data",
    "max_seq_length": "write max_length",
    "evaluation_strategy": "write eval_strategy",
    "group_by_length": "write train_sampling_strategy: group_by_length",
    "per_gpu_train_batch_size": "write per_device_train_batch_size",
    "no_cuda": "write use_cpu",
    "vllm_device": "give the stage its GPUs in resources, and vLLM its share with vllm_gpu_memory_utilization",
}
