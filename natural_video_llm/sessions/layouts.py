"""How data can lie that `nvllm import` reads."""

from typing import Literal

Layout = Literal["clips", "seamless", "candor", "multidialog", "parquet"]
