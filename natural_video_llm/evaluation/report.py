"""A run folder with eval.json → report.html: one file that opens offline, the verdict and its evidence first."""

import base64
import hashlib
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from natural_video_llm.disk import write_whole
from natural_video_llm.evaluation.reporting import evidence_views, reply_views, run_views
from natural_video_llm.evaluation.reporting.material import Material, load_material
from natural_video_llm.evaluation.reporting.paper import write_paper_figure
from natural_video_llm.evaluation.reporting.timeline import conversations
from natural_video_llm.run_folder import EVAL_FILE, REPORT_FILE

_PARTS = Path(__file__).with_name("reporting")


def write_report(run: Path, faces: bool = True) -> Path:
    """Write report.html, evidence.png and evidence.svg into the run, from its eval.json; returns the report.

    Args:
        run: a run folder that has been evaluated. Its data is looked at where it still is: for pictures, motion.
        faces: show pictures of the held-out people; without them the report holds no photograph at all.

    Raises:
        UserError: no eval.json, a damaged one, or the run cannot be written. Anything else that is missing is
            said in the report.
    """
    material = load_material(run)
    page = render(material, faces)
    write_paper_figure(material.evidence, run)
    path = run / REPORT_FILE
    write_whole(path, page)
    return path


def render(material: Material, faces: bool) -> str:
    """The page. All text of the data is escaped; the page's own script is the only one that a browser will run."""
    shown = _views(material, faces)
    script = (_PARTS / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=PackageLoader("natural_video_llm.evaluation", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["log2"] = math.log2
    return environment.get_template("page.html").render(
        **shown,
        style=Markup((_PARTS / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_sha256=digest,
        missing=material.missing,
    )


def _views(material: Material, faces: bool) -> dict[str, Any]:
    evidence = material.evidence
    talks = conversations(material, faces)
    if "timeline" not in evidence:
        material.miss("Conversations", "this eval.json has no timeline; an older version made it.")
    side_by_side = reply_views.replies(material, faces)
    pictures = [turn.pictures for talk in talks for turn in talk.turns]
    sources = {talk.session_id for talk in talks}
    if side_by_side is not None:
        pictures += [reply.pictures for reply in side_by_side["replies"]]
        sources |= {reply.session_id for reply in side_by_side["replies"]} - {""}
    evaluated = datetime.fromtimestamp((material.run / EVAL_FILE).stat().st_mtime, UTC)
    return {
        "name": material.run.resolve().name,
        "evaluated": evaluated.strftime("%Y-%m-%d"),
        "data": evidence["data"],
        "interval_over": evidence_views.interval_over(evidence["data"]),
        "faces": faces,
        "has_pictures": any(pictures),
        "sources": sorted(sources),
        "verdict": evidence_views.verdict(material),
        "key_figures": evidence_views.key_figures(material),
        "evidence": evidence_views.evidence_table(material),
        "shift": evidence_views.shift_chart(material),
        "choices": evidence_views.choices_table(material),
        "reaction": evidence_views.reaction_rows(material),
        "conversations": talks,
        "replies": side_by_side,
        "replies_table": evidence_views.replies_table(material),
        "judge": evidence_views.judge_view(material),
        "training": run_views.training_charts(material),
        "folds": len(material.parts),
        "card": run_views.data_card(material),
        "reproduce": run_views.reproduce(material),
    }
