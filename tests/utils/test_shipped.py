"""What tells one model from another, without reading all of it."""

from __future__ import annotations

import numpy as np

from opinionlm.utils import shipped
from opinionlm.utils.shipped import model_digest, sampled_digest


def test_other_weights_have_another_digest_and_no_more_than_three_samples_are_read(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(shipped, "SAMPLE", 64)
    weights = np.random.default_rng(0).integers(0, 256, 4096, dtype=np.uint8)
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")

    def digests(content: bytes) -> tuple[str, str]:
        (tmp_path / "model.safetensors").write_bytes(content)
        return sampled_digest(tmp_path), model_digest(tmp_path)

    first = digests(weights.tobytes())
    assert digests(weights.tobytes()) == first
    trained = digests((weights + 1).tobytes())
    assert trained[0] != first[0] and trained[1] != first[1]
    assert digests(weights[:-1].tobytes())[0] != first[0]
    weights[100] += 1  # between the samples
    sampled, whole = digests(weights.tobytes())
    assert sampled == first[0] and whole != first[1]
    (tmp_path / "config.json").write_text('{"a": 1}', encoding="utf-8")
    assert digests(weights.tobytes())[0] != first[0]
