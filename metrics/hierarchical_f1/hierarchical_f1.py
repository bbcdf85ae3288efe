"""Scores of predictions over a label tree, in the form of a metric of Hugging Face's evaluate.

    import evaluate
    metric = evaluate.load("metrics/hierarchical_f1")
    tree = {"noise": None, "subjective": ["question", "positive"]}
    metric.compute(predictions=["question"], references=["positive"], label_tree=tree)

Run it where `opinionlm` can be imported, in the repository's folder for instance.
"""

from __future__ import annotations

# evaluate looks for imports line by line: one name per line.
import datasets
import evaluate
import numpy as np

from opinionlm.data.taxonomy import Taxonomy
from opinionlm.errors import UserError
from opinionlm.evaluation.metrics import classification_scores

DESCRIPTION = """\
Hierarchical precision, recall and F1 (Kiritchenko et al. 2006), the mean height of the lowest common ancestor over the
mistakes (Bertinetto et al. 2020), and macro-F1 and accuracy of the leaves and of every level of the label tree."""
INPUTS = """\
predictions: predicted leaves by name; references: gold leaves by name; label_tree: nested mappings and lists of names,
as in a dataset YAML of opinionlm."""
CITATION = """\
@inproceedings{kiritchenko2006, title={Learning and Evaluation in the Presence of Class Hierarchies: Application to
Text Categorization}, author={Kiritchenko, Svetlana and Matwin, Stan and Nock, Richard and Famili, A. Fazel},
booktitle={Canadian Conference on AI}, year={2006}}"""


class HierarchicalF1(evaluate.Metric):
    """See the description of this module."""

    def _info(self) -> evaluate.MetricInfo:
        """What goes in."""
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            inputs_description=INPUTS,
            citation=CITATION,
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: list[str], references: list[str], label_tree: dict | list) -> dict[str, float]:
        """The scores that do not belong to a single leaf.

        Raises:
            UserError: a name that is no leaf of the tree.
        """
        taxonomy = Taxonomy.from_tree(label_tree)
        if unknown := sorted({*predictions, *references} - set(taxonomy.leaves)):
            raise UserError(
                f"hierarchical_f1: {unknown[0]!r} is no leaf of label_tree; the leaves are "
                f"{', '.join(taxonomy.leaves)}"
            )
        gold, predicted = (np.array([taxonomy.leaf_id(name) for name in names]) for names in (references, predictions))
        scores = classification_scores(gold, predicted, taxonomy)
        return {name: value for name, value in scores.items() if not name.startswith("f1_")}
