"""How long the page of all runs takes: `python tests/bench/bench_site.py [NUM_RUNS]`. Budget: 1,000 runs open in 2 s.

Opening is from the request to the load event of a headless Chromium that has just started, scripts and layout included.
"""

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from flows.site import write_site
from tasks.core.store import Store
from tests.flows.stored_runs import write_many_runs
from tests.tasks.chromium import open_page

TIMES = 3


def main() -> None:
    """Print how long the page takes to write, to open, and to filter by one word."""
    num_runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as directory:
        store = Store(Path(directory) / "store")
        write_many_runs(store, num_runs)
        began = time.perf_counter()
        page = write_site(store, Path(directory) / "site")
        print(f"{num_runs:,} runs written in {time.perf_counter() - began:.2f} s, {page.path.stat().st_size:,} bytes")
        for width in (1280, 390):
            print(
                f"{width} px wide: opened in {_opening_s(page.path, width)} s, filtered in {_filter_ms(page.path)} ms"
            )


def _opening_s(path: Path, width: int) -> str:
    """Seconds to the load event and the first layout after it, each time in a fresh browser."""
    seconds = []
    for _ in range(TIMES):
        with open_page() as page:
            began = time.perf_counter()
            page.open(path, width)
            page.evaluate("document.body.offsetHeight")
            seconds.append(time.perf_counter() - began)
    return ", ".join(f"{one:.2f}" for one in seconds)


def _filter_ms(path: Path) -> str:
    with open_page() as page:
        page.open(path, 1280)
        return f"{page.evaluate(TYPE_A_WORD):.0f}"


TYPE_A_WORD = """(() => {
  const began = performance.now();
  fields.text.value = "mini-r1";
  fields.text.dispatchEvent(new Event("input", { bubbles: true }));
  document.body.offsetHeight;
  return performance.now() - began;
})()"""


if __name__ == "__main__":
    main()
