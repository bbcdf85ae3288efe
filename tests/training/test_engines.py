"""Logistic regression on features of a frozen backbone, through a whole run."""

from __future__ import annotations

import numpy as np

from opinionlm.runs import train_classifier
from opinionlm.training.engines import pooled_features
from tests.classifier_runs import train, write_setting


def test_the_fitted_head_is_the_evaluated_one(tmp_path, monkeypatch) -> None:
    """Logits that a run is scored by are those of the fit, whatever the backbone computes its features in."""
    differences = []
    evaluate = train_classifier.evaluate

    def compared(task, engine, prefix, loss):
        head = engine.model.head.output
        weight, bias = (tensor.detach().double().numpy() for tensor in (head.weight, head.bias))
        for reader in prefix.readers.values():
            fitted = (pooled_features(reader) @ weight.T + bias)[reader.order]
            differences.append(np.abs(engine.outputs(reader) - fitted).max() / fitted.std())
        return evaluate(task, engine, prefix, loss)

    monkeypatch.setattr(train_classifier, "evaluate", compared)
    options = {"engine": "sklearn", "adaptation": "head_only", "head_hidden_sizes": "[]", "bf16": "true"}
    train(write_setting(tmp_path), output_dir=tmp_path, run_name="r", **options)
    assert len(differences) == 3 and max(differences) < 1e-5
