"""Countdown generator: unique problems a second on one core, how it grows to 1 M, and that workers change nothing.

    python -m tests.bench.bench_countdown_generator

The space is that of Countdown-Tasks-3to4 (3-4 numbers of 1-99, targets 1-99, + - * /). Repeats become commoner as the
list grows (about a third of the candidates at 1 M), so problems a second falls; candidates a second does not.
"""

import time

from tasks.core.countdown.problems import generate

TARGET_PER_S = 20_000
SIZES = (20_000, 100_000, 1_000_000)
NUM_COMPARED = 200_000


def main() -> None:
    """Print problems a second for each size, and compare one worker's list with two workers'."""
    for num in SIZES:
        start = time.process_time()
        generate(0, num)
        core_s = time.process_time() - start
        per_s = num / core_s
        print(f"{num:>9,} problems {core_s:7.2f} core s, {per_s:>9,.0f} a core second, target {TARGET_PER_S:,}")
    lists = []
    for num_workers in (1, 2):
        start = time.perf_counter()
        lists.append(generate(0, NUM_COMPARED, num_workers=num_workers))
        wall_s = time.perf_counter() - start
        print(f"{NUM_COMPARED:>9,} problems {wall_s:7.2f} s of wall clock with {num_workers} worker(s)")
    print(f"1 and 2 workers give the same problems: {lists[0] == lists[1]}")


if __name__ == "__main__":
    main()
