"""Two evaluations against each other: how far their models differ on the same images, and why their numbers differ.

    comparison    `compare`, and its result
    ablation      from one evaluation's rules to the other's, one setting at a time

Evaluations under the same rules are compared image by image. Under different rules the difference of their numbers
does not describe the models: then the first's kept predictions are scored again, and an ablation shows how much each
setting explains.
"""

from sonde.comparison.ablation import Ablation, AblationSetting, AblationStep, ablate, list_differences
from sonde.comparison.comparison import Comparison, compare
from sonde.renamed import keep_old_names

__all__ = ["Ablation", "AblationSetting", "AblationStep", "Comparison", "ablate", "compare", "list_differences"]

keep_old_names(
    __name__,
    {
        "Ladder": "Ablation",
        "Rung": "AblationSetting",
        "Step": "AblationStep",
        "climb": "ablate",
        "differing": "list_differences",
    },
)
