"""Clean the posts of a data set and drop their exact copies on a Ray cluster.

    pip install ray==2.60.0
    python examples/ray_preprocess.py --config configs/datasets/sample.yaml --output cleaned

One worker reads a file, all of them clean, and rows with equal hashes meet in a group: which copy stays, and what
becomes of contradictory labels, is what `preprocess.py` decides. The output is a folder of Parquet files with the rows
of its three splits together, in any order. Not made here: splits, rejects.csv, the report. All nodes have to see the
files. With a cluster running (`ray start`), --address auto joins it.
"""

import argparse
from collections.abc import Iterator

import pyarrow as pa
import ray

import opinionlm

# Blocks of this many bytes, so that all workers have some to clean.
BLOCK_BYTES = 1 << 20
# Workers that wait must not keep the cores that Ray's own tasks between the steps ask for.
SHARE = {"num_cpus": 0, "batch_format": "pyarrow"}


class Step:
    """A worker for one step, which loads the tokenizer once."""

    def __init__(self, name: str, config: str, data_dir: str) -> None:
        self.name, self.preparation = name, opinionlm.prepare_blocks(config, data_dir)

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        """The rows that a block, a group, or the number of a file becomes."""
        match self.name:
            case "read":
                for file in block["file"].to_pylist():
                    yield from self.preparation.read(file)
            case "clean":
                yield self.preparation.clean(block)
            case "raw_bucket":
                yield self.preparation.drop_raw_copies(block)
            case "bucket":
                yield self.preparation.drop_copies(block)


def main(argv: list[str] | None = None) -> None:
    """Prepare the data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, metavar="YAML", help="of task sequence, without splits of its own")
    parser.add_argument("--data_dir", default="data", metavar="FOLDER", help="[%(default)s]")
    parser.add_argument("--output", required=True, metavar="FOLDER")
    parser.add_argument("--workers", type=int, default=2, help="for each step")
    parser.add_argument("--address", help="of a running cluster, such as auto; by default one on this machine")
    options = parser.parse_args(argv)
    files = opinionlm.prepare_blocks(options.config, options.data_dir).files
    ray.init(address=options.address)
    ray.data.DataContext.get_current().target_max_block_size = BLOCK_BYTES

    def step(name: str) -> dict:
        arguments = [name, options.config, options.data_dir]
        workers = ray.data.ActorPoolStrategy(size=options.workers)
        return SHARE | {"fn_constructor_args": arguments, "compute": workers}

    rows = ray.data.from_items([{"file": file} for file in files], override_num_blocks=len(files))
    rows = rows.map_batches(Step, batch_size=1, **step("read")).map_batches(Step, batch_size=1_000, **step("clean"))
    for bucket in ("raw_bucket", "bucket"):
        rows = rows.groupby(bucket, num_partitions=options.workers).map_groups(Step, **step(bucket))
    rows.write_parquet(options.output, mode="overwrite")


if __name__ == "__main__":
    main()
