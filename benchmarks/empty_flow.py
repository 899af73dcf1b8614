"""What Prefect takes by itself: three mapped task runs a picture, as the flow has, that do nothing.

python -m benchmarks.empty_flow PICTURES
"""

import sys

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.processing import CHUNK_SIZE, THREADS


@task(task_run_name="first {number}", cache_policy=NO_CACHE)
def first(number: int) -> int:
    """Nothing."""
    return number


@task(task_run_name="second {number}", cache_policy=NO_CACHE)
def second(number: int) -> int:
    """Nothing."""
    return number


@task(task_run_name="third {number}", cache_policy=NO_CACHE)
def third(number: int) -> int:
    """Nothing."""
    return number


@flow(task_runner=THREADS)
def empty_flow(pictures: int) -> None:
    """Three task runs a picture, in chunks of the flow's size."""
    for start in range(0, pictures, CHUNK_SIZE):
        numbers = list(range(start, min(start + CHUNK_SIZE, pictures)))
        for each in (first, second, third):
            numbers = each.map(numbers).result()
        for number in numbers:
            print("Saved", number, flush=True)


if __name__ == "__main__":
    empty_flow(int(sys.argv[1]))
