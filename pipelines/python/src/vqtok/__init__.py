"""Image data sets to VQ token grids, and token grids to whatever trains on them.

>>> import vqtok
>>> vqtok.tokenize("photos/", out="tokens/", model="model/")    # doctest: +SKIP
>>> tokens = vqtok.open("tokens/")                              # doctest: +SKIP
>>> tokens.grid, tokens.codes, len(tokens)                      # doctest: +SKIP

The work is done by the program `vqtok`, which this package brings; `vqtok.run` calls any of its
commands. Nothing else is needed for that. Reading needs `pip install 'vqtok[pyarrow]'`, PyTorch's
data sets `'vqtok[torch]'`, Hugging Face's `'vqtok[datasets]'`.
"""

from ._errors import Error, MissingExtra, NotUsable, Unfinished
from ._find import find_vqtok_bin
from ._output import Dataset, Level, open
from ._run import Event, Result, Summary, run, tokenize

__all__ = [
    "Dataset",
    "Error",
    "Event",
    "Level",
    "MissingExtra",
    "NotUsable",
    "Result",
    "Summary",
    "Unfinished",
    "find_vqtok_bin",
    "open",
    "run",
    "tokenize",
]
