"""What the tests of `r1 nightly` reproduce: a model from random weights, asked twelve problems, is never right."""

STAGES = """\
  base:
    stage: fetch_model
    source: scratch
    scratch: {architecture: llama, hidden_size: 16, intermediate_size: 32, num_layers: 1, num_heads: 2,
              max_positions: 128, max_integer: 100}
  problems:
    stage: prepare_data
    source: {kind: countdown, num_numbers: [3], max_number: 10, max_target: 99, operators: "+-*", prompt: tokens}
    num_train: 4
    num_eval: 12
  after:
    stage: evaluate
    model: base
    problems: problems
    benchmark: countdown
    num_questions: null
    num_samples: 2
    temperature: 1.0
    top_p: 1.0
    max_new_tokens: 8
    engine: transformers
"""
SURE = "num_questions: 1000, fixed_questions: true, source: a test"
"""Of a target: how sure it is."""
