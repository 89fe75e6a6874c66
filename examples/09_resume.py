"""A run that is killed in the middle, and goes on where it was: its store is a file.

Twenty tasks are run by a program of its own, which is this file with an argument. It is killed the hard way, looked at,
and started again.
"""

import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import lightactors as la


@la.agent
def square(task: int) -> float:
    print(f"{task}\n", end="", flush=True)  # in one piece: two runners print
    time.sleep(0.05)
    return float(task * task)


def train(file: str) -> None:
    results = la.Trainer(agent=square, store=file, n_runners=2).run(range(20))
    print("in all", sum(result.reward or 0 for result in results))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, __file__, f"{folder}/run.db"]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as first:
            assert first.stdout is not None
            print("first run:", *(line.strip() for line in islice(first.stdout, 9)))
            first.kill()

        print("\nkilled; its store has\n", flush=True)  # before what another program prints
        # Without the extra `cli` it says how to install that; the rest needs no more than the core.
        subprocess.run([sys.executable, "-m", "lightactors", "store", "show", "run.db"], cwd=folder, check=False)

        second = subprocess.run(program, stdout=subprocess.PIPE, text=True, check=True)
        *tasks, result = second.stdout.splitlines()
        print("\nsecond run:", *tasks)
        print(result)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train(str(Path(sys.argv[1])))
    else:
        main()
