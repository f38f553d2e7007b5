"""Face points from the page and from the server, of the same pictures: how far apart, and what that does to replies.

    python benchmarks/bench_browser_points.py CLIP [CLIP ...]

Of each clip 30 pictures go through the page's own worker in Chromium and through the package's landmarker. Then both
sets of points are shown to the starter adapter, and eight messages are answered: the likeliest replies, and replies
drawn from the same two seeds, of 20 tokens at most.
"""

import argparse
import shutil
import sys
import tempfile
from itertools import islice
from pathlib import Path

from natural_video_llm.assets import STARTER
from natural_video_llm.inference.conversation import Sampling
from natural_video_llm.inference.engine import Engine
from natural_video_llm.sessions.video import read_frames

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "web"))
from page_server import served
from seen_twice import MESSAGES, SeenTwice, first_reply, see_twice

PICTURES, TOKENS = 30, 20
SAMPLINGS = {
    "likeliest": Sampling(temperature=0, max_tokens=TOKENS),
    "seed 0": Sampling(seed=0, max_tokens=TOKENS),
    "seed 1": Sampling(seed=1, max_tokens=TOKENS),
}


def same_replies(engine: Engine, seen: SeenTwice, sampling: Sampling) -> int:
    """To how many of MESSAGES the whole reply is the same."""
    return sum(
        first_reply(engine, message, seen.browser, seen.size_px, sampling)
        == first_reply(engine, message, seen.server, seen.size_px, sampling)
        for message in MESSAGES
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="+", type=Path, help="about 30 pictures a second, a face in each")
    clips = parser.parse_args().clips
    chromium = shutil.which("chromium")
    if chromium is None:
        parser.error("no Chromium on the PATH (Debian: apt-get install chromium)")
    totals = dict.fromkeys(SAMPLINGS, 0)
    with tempfile.TemporaryDirectory() as folder, served("starter", Path(folder)) as server:
        for number, clip in enumerate(clips):
            pictures = Path(folder) / str(number)
            pictures.mkdir()
            frames = [rgb for _, rgb in islice(read_frames(clip), 0, 2 * PICTURES, 2)]
            seen = see_twice(frames, pictures, chromium, server)
            print(f"{clip.name}: {seen.apart().mean():.3%} of the distance between the eyes apart", flush=True)
            with Engine.load(Path(STARTER)) as engine:
                for name, sampling in SAMPLINGS.items():
                    same = same_replies(engine, seen, sampling)
                    totals[name] += same
                    print(f"  {name}: the same reply to {same} of {len(MESSAGES)} messages", flush=True)
    for name, same in totals.items():
        print(f"{name}: {same} of {len(MESSAGES) * len(clips)} replies are the same")


if __name__ == "__main__":
    main()
