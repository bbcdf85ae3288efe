"""Label CSV or Parquet files of any size on a Ray cluster, one model per worker.

    pip install ray==2.60.0
    python examples/ray_predict.py --model outputs/<run>/best --input posts.csv --output labels --workers 2

Ray reads, spreads the blocks over the workers of all its nodes, and does those of a worker that dies once more. Rows
in are rows out: a row keeps its columns and gets the answer's beside them; an empty post has an empty answer. The text
stands in the column `text`, what a model reads beside it in columns of those names. The output is a folder of Parquet
files. With a cluster running (`ray start`), --address auto joins it.
"""

import argparse
from dataclasses import asdict

import pyarrow as pa
import pyarrow.csv
import ray

import opinionlm

# Given, since Ray would infer another one from a block without answers (ray #28505): of one label, and of several.
WORDS = pa.list_(pa.string())
ANSWER = pa.schema([("label", pa.string()), ("confidence", pa.float64()), ("levels", WORDS)])
ANSWERS = pa.schema([("labels", WORDS), ("levels", pa.list_(WORDS))])
# Of a core, for reading and writing.
SHARE = {"num_cpus": 0.25}


class Labels:
    """A worker: the model, loaded once."""

    def __init__(self, model: str) -> None:
        self.predictor = opinionlm.load(model)
        predictor = self.predictor.predictor
        if "predicted" not in predictor.columns:
            raise ValueError(f"{model} gives texts no labels; use predict.py")
        # A model of several labels writes them as a list.
        self.answer = ANSWERS if predictor.json_value("predicted", "[]") == [] else ANSWER

    def __call__(self, block: pa.Table) -> pa.Table:
        """The rows of a block with their answers."""
        found = self.predictor.predict(block.to_pylist())
        answers = [{} if answer is None else asdict(answer) for answer in found]
        names = [f"input_{name}" if name in self.answer.names else name for name in block.column_names]
        block = block.rename_columns(names)
        for field in self.answer:
            block = block.append_column(field, pa.array([answer.get(field.name) for answer in answers], field.type))
        return block


def read(files: list[str]) -> ray.data.Dataset:
    """The rows of the files. Cells of a CSV stay as they are written: 007 is no number, NA no missing text."""
    if not files[0].endswith(".csv"):
        return ray.data.read_parquet(files, **SHARE)
    with pa.csv.open_csv(files[0], parse_options=pa.csv.ParseOptions(newlines_in_values=True)) as reader:
        columns = {name: pa.string() for name in reader.schema.names}
    return ray.data.read_csv(
        files,
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(column_types=columns, strings_can_be_null=False),
        **SHARE,
    )


def main(argv: list[str] | None = None) -> None:
    """Label the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, metavar="FOLDER")
    parser.add_argument("--input", required=True, nargs="+", metavar="FILE", help=".csv or .parquet, all alike")
    parser.add_argument("--output", required=True, metavar="FOLDER")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--block_rows", type=int, default=4096, help="rows that a worker takes at a time [4096]")
    parser.add_argument("--address", help="of a running cluster, such as auto; by default one on this machine")
    options = parser.parse_args(argv)
    ray.init(address=options.address)
    # Blocks end in whatever order (ray #50890); the output keeps the input's.
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    labelled = read(options.input).map_batches(
        Labels,
        fn_constructor_args=[options.model],
        batch_size=options.block_rows,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=options.workers),
        # Whole cores for all workers would leave none to read and write, and nothing would begin.
        num_cpus=0.5,
    )
    labelled.write_parquet(options.output, mode="overwrite", ray_remote_args=SHARE)


if __name__ == "__main__":
    main()
