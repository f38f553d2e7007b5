"""Made-up latents are those of an encoder of their own."""

import pytest
from train_points import add_points

from natural_video_llm.preprocessing import encoders


@pytest.fixture(autouse=True, scope="package")
def _points() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoders, "_KINDS", dict(encoders._KINDS))
        add_points()
        yield
