"""Imported once by the fork server, so that every child of the tests begins with everything loaded and nothing run."""

# ruff: noqa: E402, F401
import gc

gc.disable()

import opinionlm.data.preparation.pipeline
import opinionlm.inference.files
import opinionlm.inference.loading
import opinionlm.runs.generation_results
import opinionlm.runs.results
import opinionlm.runs.seeds
import opinionlm.training.engines
import opinionlm.training.instruct_trainer
import tests.drawing

# No child looks for garbage among what was imported, nor copies its pages by doing so.
gc.freeze()
gc.enable()
