"""The algorithm and its runners in processes: all on this machine, or each side where you like.

    python 07_client_server.py

starts everything here. On two machines, or in two terminals, the same program is either side:

    LIGHTACTORS_TOKEN_FILE=tokens LIGHTACTORS_CURRENT_ROLE=algorithm python 07_client_server.py
    LIGHTACTORS_TOKEN_FILE=tokens LIGHTACTORS_CURRENT_ROLE=runner python 07_client_server.py

The algorithm's side writes the file `tokens`, and listens at LIGHTACTORS_SERVER_HOST and _PORT (localhost:4747). Start
as many runners as you like, before or after it: stop some, start others; they end when it ends.
"""

import os

import lightactors as la


@la.agent
def guess(task: int, secret: bytes) -> float:
    la.emit_message(f"guessed in process {os.getpid()}")
    return -abs(task - secret[0])


@la.algorithm
async def search(store: la.Store, train: la.Dataset[int]) -> None:
    best, secret = float("-inf"), 0
    for number in range(0, 256, 32):
        published = await store.add_resources({"secret": bytes([number])})
        results = await la.run_tasks(store, train, mode="train", resources_id=published.resources_id)
        mean = sum(result.reward or 0 for result in results) / len(results)
        best, secret = max((best, secret), (mean, number))
    workers = await store.query_workers()
    print(f"the best is {secret}, with a mean reward of {best:.0f}, found by {len(workers)} workers")


if __name__ == "__main__":  # needed: a new process imports this file to find the agent
    la.Trainer(algorithm=search, agent=guess, n_runners=2, strategy="cs").fit([96, 100, 104])
