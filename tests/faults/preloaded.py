"""Imported once by the fork server, so that every child of the tests begins with everything loaded and nothing run."""

# ruff: noqa: F401
import opinionlm.data.pipeline
import opinionlm.experiments.instruct_results
import opinionlm.experiments.prediction
import opinionlm.experiments.prediction_files
import opinionlm.experiments.results
import opinionlm.experiments.seeds
import opinionlm.training.engines
import opinionlm.training.instruct_trainer
