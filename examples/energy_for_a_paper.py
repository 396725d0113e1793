"""Count what one inference costs and print the rows of a paper's table: two losses, two price lists, mean and deviation.

Run it with `python examples/energy_for_a_paper.py`; it takes about twenty seconds.
It needs `pip install 'tet-deploy[train]'`.
"""

import dataclasses

import tet_deploy as td
from tet_deploy import data, training
from tet_deploy.counting import ENERGIES
from tet_deploy.models import build

samples = data.load("event-digits", steps=5)
recipe = training.load_recipe("event-digits")
few = dataclasses.replace(recipe.stages[0], epochs=2)  # the recipe's own number for a paper
rows, reports = [], {}
for name, weight in (("sdt", 0.0), ("tet", few.mse_weight)):
    stage = dataclasses.replace(few, loss=name, mse_weight=weight)
    model = build("event-digits", seed=0)
    training.train(model, samples.train_frames, samples.train_labels, dataclasses.replace(recipe, stages=(stage,)))
    network = td.lower(td.trace(model, samples.shape, encoding="events"), samples.train_frames)
    int8 = td.quantize(network, samples.train_frames[:, :128])
    accuracy = (td.run(int8, samples.test, probes="none").decisions == samples.test_labels).mean()
    reports[name] = td.energy(int8, samples.test, table=["45nm-int8", "45nm-fp32"])
    for priced in reports[name].by_table:
        spent, dense = priced.mean(priced.default), priced.mean("ann")
        deviation = priced.std(priced.default)
        cells = (name.upper(), f"{accuracy:.2%}", priced.table.name, f"{spent / 1000:.1f} ± {deviation / 1000:.1f}")
        rows.append((*cells, f"{spent / dense:.2f}"))

print("| loss | accuracy | prices | nJ an inference | share of a dense pass |")
print("|---|---|---|---|---|")
for row in rows:
    print("|", " | ".join(row), "|")

# What the caption has to say: which operations are priced, how many samples, and where each price is from.
report = reports["tet"]
print(f"\nmean ± standard deviation over {report.samples} samples of {report.steps} steps; {ENERGIES[report.default]}")
for priced in report.by_table:
    for operation in ("addition", "mac"):
        price = getattr(priced.table, operation)
        print(f"{priced.table.name}, {operation}: {price.picojoules} pJ, {price.source}")
