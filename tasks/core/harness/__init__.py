"""lighteval as our evaluation harness, and the only place that bends it.

`run_harness` (run.py) drives lighteval's Pipeline, registry, Transformers model and result table over our questions.
Where lighteval 0.13 is bent, and why; each has a test that fails when a new lighteval makes it needless or breaks it:

- It refuses any latex2sympy2_extended but 1.0.6 while math-verify 0.9 wants 1.11. Its own LaTeX metrics are never used
  here (our verifier judges), yet `import lighteval.metrics.metrics` raises, so that one entry of its requirements is
  relaxed below. This module runs before any other of the package, hence before lighteval's first check.
- patches.py: the registry imports all built-in tasks at start, the data set comes from the hub, and the sample cache
  creates directories inside the checkpoint, which is somebody's published artifact.
  Its result log hashes `str` with xxhash, which xxhash 4 refuses (datasets admits any version).
- transformers_engine.py: its end-of-text criterion watches only the first `batch_size` of `batch_size * num_samples`
  rows, so it stops a batch while other rows still write, and decodes text at every step; it keeps the logits of every
  step; sampling falls back to greedy decoding unless the checkpoint's own generation config happens to sample; and a
  `max_new_tokens` among its generation parameters cuts the prompt to that many tokens.
- vllm_engine.py: its vLLM backend wants vllm < 0.10.2 and calls an interface that later versions removed, so vLLM is
  driven through lighteval's interface for custom models instead.
- server_engine.py: its client of OpenAI-compatible servers makes an empty answer of a request that failed.
- benchmarks.py: its own benchmarks; what is asked, judged and drawn otherwise there stands in that file.
- code_judge.py: its judge of LiveCodeBench's programs works, but runs them with the caller's environment.
"""

import os

RELAXED_REQUIREMENT = "latex2sympy2_extended"


def relax_latex2sympy2() -> None:
    """Let lighteval accept any installed version of latex2sympy2_extended. Calling it twice does no harm."""
    from lighteval.utils.imports import required_dependencies
    from packaging.requirements import Requirement

    requirements, _ = required_dependencies()  # cached by lighteval: one dict for every later check
    requirements[RELAXED_REQUIREMENT] = Requirement(RELAXED_REQUIREMENT)


# lighteval asks GitPython for its own commit; without this its import raises on a machine that has no git.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
relax_latex2sympy2()
