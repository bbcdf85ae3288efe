"""Imported once by the fork server, so that every child of the tests begins with everything loaded and nothing run."""

# ruff: noqa: F401 — what is imported here is there in the children
import io
import os
from contextlib import redirect_stdout

from opinionlm.utils.loading import libraries_loading

# No child looks for garbage among what was imported, nor copies its pages by doing so, nor prints what a library does.
with libraries_loading(), redirect_stdout(io.StringIO()):
    import scipy.stats
    import sklearn.feature_extraction.text

    import opinionlm.data.preparation.pipeline
    import opinionlm.inference.files
    import opinionlm.inference.loading
    import opinionlm.runs.generation_results
    import opinionlm.runs.results
    import opinionlm.runs.seeds
    import opinionlm.runs.train_classifier
    import opinionlm.training.engines
    import opinionlm.training.instruct_trainer
    import tests.drawing

# A kill loses nothing that was written: only a power cut would.
os.fsync = lambda descriptor: None
