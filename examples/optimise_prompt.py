"""Optimise a prompt template for a small text task, without any network.

The "model" is a few lines of Python that does what language models do with examples in their prompt: it
answers with the label of the example most like the question. The algorithm finds out which examples to put
into the template: it adds one good and one bad review at a time, always the pair that earns the most reward.
"""

import argparse
import re

import lightactors as la

REVIEWS = [
    ("The battery died after two days", "bad"),
    ("Great sound, and the battery lasts for days", "good"),
    ("Love it, works like a charm", "good"),
    ("It broke on the first day", "bad"),
    ("The screen is great and very bright", "good"),
    ("Terrible support, never again", "bad"),
    ("Works well and looks great", "good"),
    ("Stopped working, terrible quality", "bad"),
    ("I love the sound", "good"),
    ("Broke after a week and support never answered", "bad"),
    ("Very bright, lasts long, works well", "good"),
    ("Never buy this, the screen died", "bad"),
]
UNSEEN = [
    ("The sound is great", "good"),
    ("It died after a week", "bad"),
    ("I love how long it lasts", "good"),
    ("Terrible screen, broke at once", "bad"),
    ("Looks very good and works", "good"),
    ("Support never called back", "bad"),
]
Review = tuple[str, str]


def model(prompt: str) -> str:
    """Answer like the most similar example in the prompt; with none, guess."""
    *examples, question = re.findall(r"Review: (.*)\nLabel: ?(\w*)", prompt)
    words = set(re.findall(r"\w+", question[0].lower()))
    overlaps = [(len(words & set(re.findall(r"\w+", text.lower()))), label) for text, label in examples]
    return max(overlaps, default=(0, "good"), key=lambda overlap: overlap[0])[1]


@la.agent
def classify(task: Review, prompt_template: la.PromptTemplate) -> float:
    review, label = task
    answer = model(prompt_template.format(review=review))
    la.emit_message(answer)
    return float(answer == label)


def template(examples: list[Review]) -> la.PromptTemplate:
    shots = "".join(f"Review: {text}\nLabel: {label}\n\n" for text, label in examples)
    return la.PromptTemplate(shots + "Review: {review}\nLabel:")


@la.algorithm
async def add_examples(store: la.Store, train: la.Dataset[Review], val: la.Dataset[Review]) -> None:
    """Greedy forward selection of the examples in the prompt."""

    async def accuracy(examples: list[Review], tasks: la.Dataset[Review], mode: la.Mode) -> float:
        published = await store.add_resources({"prompt_template": template(examples)})
        results = await la.run_tasks(store, tasks, mode=mode, resources_id=published.resources_id)
        return sum(result.reward or 0 for result in results) / len(results)

    chosen: list[Review] = []
    best = await accuracy(chosen, train, "train")
    print(f"no examples: {best:.0%} on the training set, {await accuracy(chosen, val, 'val'):.0%} on unseen reviews")
    reviews = [train[index] for index in range(len(train))]
    pairs = [[good, bad] for good in reviews for bad in reviews if (good[1], bad[1]) == ("good", "bad")]
    while True:
        scored = [(await accuracy(chosen + pair, train, "train"), pair) for pair in pairs]
        score, pair = max(scored)
        if score <= best:
            break
        best, chosen = score, chosen + pair
        print(f"+ {pair[0][0]!r} and {pair[1][0]!r}: {best:.0%}")
    print(
        f"{len(chosen)} examples: {best:.0%}, {await accuracy(chosen, val, 'val'):.0%} on unseen reviews; the template:"
    )
    print(template(chosen).template)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio", help="the event loop")
    backend = parser.parse_args().backend
    la.Trainer(algorithm=add_examples, agent=classify, n_runners=4, backend=backend, progress=False).fit(
        REVIEWS, UNSEEN
    )
