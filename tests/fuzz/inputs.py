"""Bytes that nearly are what a reader expects: pieces of the format, put together at random, and noise."""

from __future__ import annotations

from hypothesis import strategies as st

ODD = [
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xc3",
    b"\xe2\x80\x99",
    b"\xed\xa0\x80",
    b"\x1f\x8b",
    b"\xf0\x9f\x98\x82",
    b"\x19",
]
TABLE = [
    b"text",
    b"label",
    b",",
    b"\t",
    b'"',
    b'""',
    b"\n",
    b"\r\n",
    b"\r",
    b" ",
    b"a",
    b"1",
    b"text,label\n",
    b"x,1\n",
]
JSON = [
    b'{"text": "a", "label": 1}\n',
    b"{",
    b"}",
    b"[",
    b"]",
    b'"text"',
    b'"label"',
    b":",
    b",",
    b'"',
    b"\\ud800",
    b"null",
]
JSON += [b"1e999", b"NaN", b"\n", b"\\", b"[" * 50, b'{"text":' * 20, b"9" * 50]
CONLL = [
    b"word O\n",
    b"Ann B-PER\n",
    b"I-PER",
    b"-DOCSTART- O\n",
    b"\n",
    b"\t",
    b" ",
    b"O",
    b"x",
    b"\r",
    b"\x85",
    b"\xc2\xa0",
]
YAML = [
    b"name: x\n",
    b"task: sequence\n",
    b"labels: [a, b]\n",
    b"files:\n",
    b"  - path: a.csv\n",
    b"    columns: {text: t}\n",
]
YAML += [
    b"split: ",
    b"cleaning: ",
    b"{",
    b"}",
    b"[",
    b"]",
    b"&a ",
    b"*a",
    b": ",
    b"- ",
    b"\n",
    b"  ",
    b"!!python/object:os ",
    b"!!set ",
]
YAML += [
    b"2026-99-99",
    b"0x",
    b"1e999",
    b".inf",
    b"~",
    b"'",
    b'"',
    b"|",
    b"? ",
    b"<<: ",
    b"name: ../x\n",
    b"codes: ",
    b"hub: {path: x}\n",
]
CONFIG = [
    b"learning_rate: ",
    b"run_name: ..\n",
    b"run_name: a/b\n",
    b"seeds: ",
    b"0..9",
    b"adaptation: lora\n",
    b"loss: ",
    b"1",
]
CONFIG += [
    b"--learning_rate ",
    b"--seeds ",
    b"--run_name ",
    b".. ",
    b"--lora_r ",
    b"--loss ",
    b"[1, ",
    b"nan ",
    b"-1 ",
    b"true ",
    b"\n",
]
CONFIG += [
    b"target_modules: ",
    b"head_hidden_sizes: ",
    b"warmup_steps: ",
    b"--bf16=",
    b"--",
    b"--use_cpu ",
    b"max_steps: ",
    b"{a: b}\n",
]
POST = [
    b"&amp;",
    b";#8217;",
    b"=\x02",
    b"<br>",
    b"<a href='x'>",
    b"http://x.y",
    b"@user",
    b"#tag",
    b"hahahaha",
    b"!!!!!!",
    b"\\n",
]
POST += [
    "â€™".encode(),
    "Ã©".encode(),
    "ã\x83\x84".encode(),
    b"&#0;",
    b"&#xD800;",
    b"&",
    b"a" * 200,
    b" ",
    b"\n",
    "́".encode(),
    b";#",
]

PIECES = {
    "csv": TABLE,
    "tsv": TABLE,
    "jsonl": JSON,
    "lines": [*TABLE, *POST],
    "conll": CONLL,
    "spec": YAML,
    "config": [*YAML, *CONFIG],
    "cleaning": POST,
}


def inputs(target: str) -> st.SearchStrategy[bytes]:
    """Cases of a target: mostly pieces of its format, with odd bytes among them; sometimes nothing but noise."""
    piece = st.one_of(st.sampled_from(PIECES[target]), st.sampled_from(ODD), st.binary(max_size=6))
    mostly = st.lists(st.one_of(st.sampled_from(PIECES[target]), piece), max_size=25).map(b"".join)
    return st.one_of(mostly, mostly, st.binary(max_size=200))
