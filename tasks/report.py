"""report: all artifacts of a run → one self-contained page that shows what the run did and whether it helped.

In: every artifact of the run (record.json, metrics.json and, by stage, completions.parquet, history.jsonl) and the
run's description under "run" in OUT/config.json. Any stage may be absent or repeated; the page says what it lacks.
Out: `report.html` (plots as inline SVG, no script, nothing fetched: it opens from a mail attachment) and
`metrics.json` with the headline numbers.

The headline compares the first with the last `evaluate` stage on the same benchmark, over the questions that both
asked: accuracies with 95 % intervals clustered by question, and the paired difference.
"""

from pathlib import Path

from pydantic import Field

from tasks.core.files import write_json, write_text
from tasks.core.main import main
from tasks.core.progress import Progress
from tasks.core.stage import Input, Stage, StageConfig


class Report(StageConfig):
    """What the page shows. These are choices of presentation, so they have defaults, yet they are part of the identity:
    another value makes another page."""

    num_examples: int = Field(default=10, ge=0, le=200)
    """How many problems are shown with their completions before and after."""

    examples_seed: int = Field(default=0, ge=0)
    """Seed of the draw of those problems."""


def report(config: Report, *, out: Path, artifacts: dict[str, Path]) -> None:
    """Write OUT/report.html and OUT/metrics.json. `artifacts` maps each step's name in the recipe to its directory.

    Raises UserError for an artifact that is no directory or whose record.json is damaged.
    """
    from tasks.core.report.evaluations import compare, load_evaluations
    from tasks.core.report.examples import pick_examples
    from tasks.core.report.page import headline_metrics, render
    from tasks.core.report.run import load_run

    with Progress(out, total=4, unit="parts") as progress:
        run = load_run(out, artifacts)
        progress.advance(note="evaluations")
        evaluations = load_evaluations(run)
        comparisons = compare(evaluations, run.notes)
        progress.advance(note="examples")
        compared = next((one for one in comparisons if one.shared), None)
        examples = pick_examples(compared, config.num_examples, config.examples_seed) if compared else []
        progress.advance(note="page")
        write_text(out / "report.html", render(run, evaluations, comparisons, examples))
        write_json(out / "metrics.json", headline_metrics(run, evaluations, comparisons))


STAGE = Stage(
    name="report",
    version=1,
    config=Report,
    run=report,
    inputs={"artifacts": Input(every=True)},
    libraries=("matplotlib",),
)

if __name__ == "__main__":
    main(STAGE)
