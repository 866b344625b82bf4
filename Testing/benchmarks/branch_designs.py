"""Compare designs of the branch: three organs learned at once from five cases, by the recipe of add_organ.py.

BRANCH_DESIGN=head+detail python Testing/benchmarks/branch_designs.py PROJECT RUNS SEED...
"""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from add_organ import ORGANS, RECIPES, _with_organs

from multiorganseg.progress import Progress
from multiorganseg_training.project import load_project
from multiorganseg_training.recipe.file import load_recipe
from multiorganseg_training.recipe.recipe import UNNAMED
from multiorganseg_training.run.fit import Place, fit

FIVE = ("btcv_00", "btcv_01", "btcv_02", "btcv_05", "btcv_06")
project, runs = Path(sys.argv[1]), Path(sys.argv[2])
torch.set_num_threads(1)
for seed in map(int, sys.argv[3:]):
    recipe = _with_organs(load_recipe(RECIPES / "parts" / "small-ours.toml"), ORGANS)
    recipe = replace(
        recipe,
        seed=seed,
        data=replace(recipe.data, known={UNNAMED: [], **{case: list(ORGANS) for case in FIVE}}),
        network=replace(recipe.network, initial=str(runs / "base-0"), arguments={**recipe.network.arguments, "branches": [3]}),
        augmentation=replace(recipe.augmentation, favoured=ORGANS),
        optimisation=replace(recipe.optimisation, fixed_batches=150),
        reporting=replace(recipe.reporting, validate_every=0),
    )
    run = runs / f"design-{os.environ['BRANCH_DESIGN']}-{seed}"
    start = time.process_time()
    scores = fit(recipe, Place(project, run, runs / "cache", torch.device("cpu")), Progress())
    said = {key: round(scores["averaged"][key], 3) for key in ORGANS}
    last = {key: round(scores["last"][key], 3) for key in ORGANS}
    print(json.dumps({"design": os.environ["BRANCH_DESIGN"], "seed": seed, "averaged": said, "last": last,
                      "cpu_seconds": round(time.process_time() - start)}), flush=True)
