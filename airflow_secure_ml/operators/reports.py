"""The security report as a step of a DAG: one period, as HTML and as PDF, and on record."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import conf

from airflow_secure_ml.adapters.report_pdf import as_pdf
from airflow_secure_ml.core.audit.catalogue import WHYS
from airflow_secure_ml.core.audit.checkpoint import Checkpoint, open_checkpoint
from airflow_secure_ml.core.audit.event import Fact
from airflow_secure_ml.deployment import Deployment, deployment
from airflow_secure_ml.errors import ConfigurationError, SecureMLError
from airflow_secure_ml.operators.fields import Address, as_text, rendered_address
from airflow_secure_ml.recording import run_of, sink_of_this_process
from airflow_secure_ml.securing.acting import SecureMLOperator, plan_of
from airflow_secure_ml.services.report_figures import stamp, whole_period_before
from airflow_secure_ml.services.report_html import standalone
from airflow_secure_ml.services.reporting import FORMAT, Report, build_report
from airflow_secure_ml.services.run_plan import Output, Plan

# A task has the time to count all there is; a page has not.
COUNT_TO = 100_000_000


class SecurityReportOperator(SecureMLOperator):
    """Write a period's security report: figures, each with the filter of the page that makes it.

    It reads the audit log, so it runs where that can be read. What it writes is signed, and sealed
    if asked; that events left the log this way is recorded before and after, with the files'
    digests. The same log and period give the same HTML. Returns References by name.

    Args:
        html: Address for the page; may be replaced only by the same task.
        pdf: Address for the same as PDF (extra `report`); None: none is made.
        period: `day`, `week` (from Monday) or `month`: the last whole one before the run, UTC.
        first: Another period's first day, such as `2026-11-01`; with `until`.
        until: The day after its last one.
        base_url: Where Airflow's pages are; None: `[api] base_url`.
        sealed: Whether the files are sealed, too.
    """

    template_fields: Sequence[str] = ("html", "pdf", "period", "first", "until", "base_url")

    def __init__(
        self,
        *,
        html: Address,
        pdf: Address | None = None,
        period: str = "month",
        first: str | None = None,
        until: str | None = None,
        base_url: str | None = None,
        sealed: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.html, self.pdf = as_text(html), None if pdf is None else as_text(pdf)
        self.period, self.first, self.until = period, first, until
        self.base_url, self.sealed = base_url, sealed

    def execute(self, context: Any) -> dict[str, Any]:
        """Count, lay out, publish; a refusal is not retried."""
        wanted = {"html": self.html} | ({} if self.pdf is None else {"pdf": self.pdf})

        def plan(here: Deployment) -> Plan:
            self._bounds(context)
            outputs = (
                Output(
                    name=name,
                    uri=here.canonical(rendered_address(name, address)),
                    sealed=self.sealed,
                )
                for name, address in wanted.items()
            )
            return plan_of(context, outputs=tuple(outputs))

        with self.secured(context, plan, dict.fromkeys(wanted, "write")) as run:
            places = run.open()
            begin, end = self._bounds(context)
            with _leaving(context, begin, end) as written:
                written.report = self._write(begin, end, places)
                written.references = run.publish()
            return dict(written.references)

    def _bounds(self, context: Any) -> tuple[int, int]:
        """The period, ms since 1970 UTC."""
        if self.first is None and self.until is None:
            moment = int(context["dag_run"].run_after.timestamp() * 1000)
            return whole_period_before(self.period, moment)
        begin, end = _day("first", self.first), _day("until", self.until)
        if begin >= end:
            raise ConfigurationError(
                f"until: expected a day after {self.first}, found {self.until}"
            )
        return begin, end

    def _write(self, begin: int, end: int, places: Any) -> Report:
        here = deployment()
        checkpoint, problem = _checkpoint(here)
        report = build_report(
            here.audit_reader(),
            from_ms=begin,
            until_ms=end,
            checkpoint=checkpoint,
            problem=problem,
            count_to=COUNT_TO,
        )
        html = standalone(report, base_url=self._base_url())
        places["html"].write_text(html, encoding="utf-8")
        if self.pdf is not None:
            places["pdf"].write_bytes(as_pdf(html))
        return report

    def _base_url(self) -> str:
        return str(self.base_url or conf.get("api", "base_url", fallback="") or "")


@dataclass(slots=True)
class _Written:
    """What was written, once it is."""

    report: Report | None = None
    references: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@contextlib.contextmanager
def _leaving(airflow_context: Any, begin: int, end: int) -> Iterator[_Written]:
    """Record that a report will leave the log, and how that ended, each file by itself."""
    run = run_of(airflow_context["ti"])
    sink = sink_of_this_process(run, program="task")
    facts = {"format": FORMAT, "query": f"after:{stamp(begin)} before:{stamp(end)}"}
    intent = sink.record(Fact(act="trail.export", phase="intent", run=run, more=facts))
    sink.settle()
    about: dict[str, Any] = {"act": "trail.export", "phase": "outcome", "run": run, "of": intent}
    written = _Written()
    try:
        yield written
    except BaseException as error:
        why = error.why if isinstance(error, SecureMLError) else "task_raised"
        sink.record(Fact(**about, result="failed", why=why if why in WHYS else "bug", more=facts))
        raise
    assert written.report is not None
    more = {**facts, "events": written.report.headline[0].count}
    for name, reference in written.references.items():
        thing = {"name": name, "uri": reference["uri"], "digest": reference["digest"]}
        sink.record(Fact(**about, result="ok", object=thing, more=more))


def _checkpoint(here: Deployment) -> tuple[Checkpoint | None, str]:
    """The newest checkpoint, if its signature holds; and why it does not."""
    log = here.audit_reader()
    note = log.checkpoint()
    if note is None:
        return None, "none is signed yet"
    try:
        return open_checkpoint(note, here.log_keys(), origin=log.origin()), ""
    except SecureMLError as error:
        return None, str(error)


def _day(name: str, given: Any) -> int:
    """The begin of a day, ms since 1970 UTC; ConfigurationError if it is none."""
    try:
        found = datetime.strptime(str(given), "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise ConfigurationError(
            f"{name}: expected a day such as 2026-11-01, found {str(given)[:40]!r}"
        ) from error
    return int(found.timestamp()) * 1000
