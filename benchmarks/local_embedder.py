"""Whether the local embedder finds titles of the same occupation that share no word, and how fast it is."""

from time import perf_counter, process_time

import numpy as np

from matching_pipeline.providers.local.text import LocalTextEmbedder

OCCUPATIONS = (
    ("Registered nurse", "Ward caregiver", "Hospital bedside staff", "Patient care assistant"),
    ("Software engineer", "Backend developer", "Python programmer", "Web application coder"),
    ("Baker", "Pastry chef", "Sourdough bread maker", "Patisserie and cake artisan"),
    ("Lorry driver", "Truck haulier", "Long-distance freight transport", "HGV operator"),
    ("Primary school teacher", "Elementary classroom educator", "Tutor for young pupils", "Kindergarten instructor"),
    ("Accountant", "Bookkeeper", "Payroll clerk", "Tax and audit specialist"),
    ("Electrician", "Wiring installer", "Power cabling technician", "Fuse box and lighting repair"),
    ("Gardener", "Landscape worker", "Groundskeeper for parks", "Plant nursery hand"),
    ("Solicitor", "Corporate lawyer", "Legal counsel", "Attorney at a court"),
    ("Shop assistant", "Retail salesperson", "Store cashier", "Boutique clerk"),
    ("Graphic designer", "Illustrator", "Visual brand artist", "Logo and poster layouter"),
    ("Carpenter", "Joiner", "Woodworker", "Furniture and timber craftsman"),
)


def main() -> None:
    print("\n## Texts: the local embedder")
    titles = [title for titles in OCCUPATIONS for title in titles]
    occupations = np.repeat(np.arange(len(OCCUPATIONS)), [len(titles) for titles in OCCUPATIONS])
    embedder = LocalTextEmbedder()
    embedder.embed(titles[:1])
    began, busy = perf_counter(), process_time()
    vectors = np.array(embedder.embed(titles))
    took, busy = perf_counter() - began, process_time() - busy
    scores = vectors @ vectors.T - 2 * np.eye(len(titles))
    right = (occupations[scores.argmax(axis=1)] == occupations).mean()
    print(f"{len(titles)} titles in {len(OCCUPATIONS)} occupations: the nearest is of the same one for {right:.2f}")
    print(f"{len(titles) / took:.0f} titles a second, {1000 * busy / len(titles):.1f} ms of processor time each")
    long = " ".join(titles)
    busy = process_time()
    embedder.embed([long] * 10)
    print(f"a text of 256 tokens or more: {100 * (process_time() - busy):.0f} ms of processor time")


if __name__ == "__main__":
    main()
