"""One secured run: everything that happens around a body, in the order that makes it safe.

Durable intent, rules, signatures, opening, validation, leasing; the body; validation, sealing,
signing, publishing; then revoking and shredding. Four durable points, however many inputs.

Source: SECURE_TASK, "Order, whatever happens"; AUDIT_TRAIL, "When it is durable".
"""

from __future__ import annotations

import contextlib
import enum
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from airflow_secure_ml.core.digest import Digest
from airflow_secure_ml.core.statement import Suite
from airflow_secure_ml.core.validation import ValidationReport
from airflow_secure_ml.errors import PolicyError, SecureMLError
from airflow_secure_ml.services.credential import Credential
from airflow_secure_ml.services.desk import Desk, ScratchDirectory, Work
from airflow_secure_ml.services.journal import Journal
from airflow_secure_ml.services.leasing import Leased
from airflow_secure_ml.services.moving import stage_move
from airflow_secure_ml.services.promised_outputs import check_output, check_outputs_apart
from airflow_secure_ml.services.reference import reference
from airflow_secure_ml.services.remote_work import RemoteWork
from airflow_secure_ml.services.run_plan import Input, Output, Plan
from airflow_secure_ml.services.secured_inputs import OpenedInput, open_input, size_of
from airflow_secure_ml.services.secured_outputs import Staged, stage_output
from airflow_secure_ml.services.secured_publishing import Published, publish
from airflow_secure_ml.services.secured_validation import check_input
from airflow_secure_ml.services.sheltering import Shelter
from airflow_secure_ml.services.vouching import reference_to, vouch

# Eight, with addresses of the longest kind, fit into an event of 32 KiB.
MAX_NAMED = 8
# Names alone, of the longest kind.
MAX_UNPLACED = 64
# An address, where the body works elsewhere.
Bound = Mapping[str, Path | list[Path] | BinaryIO | Credential | str | list[str]]


class Ending(enum.Enum):
    """How a run ended otherwise than by its package's doing, as the trail says it.

    Nothing is published then; where it was announced in vain, it was before.
    """

    PAUSED = "paused"
    SKIPPED = "skipped"
    RAISED = "task_raised"
    TIMED_OUT = "timed_out"
    UNANNOUNCED = "service_unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What is known of a run before its plan is made, for its intent.

    Attributes:
        reads: Names.
        writes: Names.
        operator: The operator's class, or what else runs.
        leases: Paths of credentials, as they were declared.
    """

    reads: Sequence[str]
    writes: Sequence[str]
    operator: str
    leases: Sequence[str] = ()


class SecuredRun:
    """One run; a context manager that leaves no plaintext and no half-published output behind.

    Args:
        desk: What it works with.
        make_plan: What is to be read and written; called once the run may record a refusal.
        declared: For the intent, should the plan not come about.
        journal: Where it says what it does.
    """

    def __init__(
        self, desk: Desk, make_plan: Callable[[], Plan], declared: Declared, journal: Journal
    ) -> None:
        self._desk, self._make_plan, self._declared = desk, make_plan, declared
        self._journal = journal
        self._stack = contextlib.ExitStack()
        self._work: Work | None = None
        self._shelter = Shelter(desk, journal)
        self._remote: RemoteWork | None = None
        self._opened: dict[str, OpenedInput] = {}
        self._reports: dict[str, ValidationReport | None] = {}
        self._made: dict[str, Path] = {}
        self._quarantined: list[Staged] = []
        self._stopped = False
        self._body_error: BaseException | None = None
        self._ended: tuple[str, str | None, str] | None = None

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of what is to be written."""
        return tuple(self._declared.writes)

    @property
    def leased(self) -> Sequence[Leased]:
        """The credentials that the body may use."""
        return self._shelter.leased

    @property
    def noted(self) -> Mapping[str, str]:
        """What a body that works elsewhere found; for its plan, should it be deferred."""
        return {} if self._remote is None else self._remote.noted

    def raised_by_body(self, error: BaseException) -> bool:
        """Whether an error came out of the body."""
        return error is self._body_error

    def forbid_publishing(self) -> None:
        """Have `publish` refuse from here on; safe from a signal handler."""
        self._stopped = True

    def __enter__(self) -> Self:
        return self

    def open(self) -> Bound:
        """Do everything that comes before the body.

        Returns:
            What the body gets under each name: a path, a list of them, a binary file, or a
            credential.

        Raises:
            SecureMLError: The body must not run; recorded and durable once the run was left.
        """
        plan = self._begin()
        work = self._work = Work(desk=self._desk, plan=plan, journal=self._journal)
        if plan.is_remote:
            return self._open_remote(work)
        scratch = self._prepare_scratch(work)
        outputs = [*plan.outputs, *_quarantine_outputs(plan)]
        check_outputs_apart(work, outputs)
        for output in outputs:
            check_output(work, output)
        bound = self._open_inputs(work, scratch)
        for output in plan.outputs:
            assert scratch is not None
            self._made[output.name] = scratch.path_for(output.name, output.uri)
        credentials = self._shelter.take_leases(work)
        self._journal.settle()
        return {**bound, **self._made, **credentials}

    def publish(self) -> Mapping[str, dict[str, Any]]:
        """Do everything that comes after a body that succeeded.

        Returns:
            A Reference for each output, by name.

        Raises:
            SecureMLError: Nothing more is published; recorded and durable once the run was left.
        """
        assert self._work is not None
        work = self._work
        self._shelter.end_use()
        if self._remote is not None:
            references = self._remote.after(self._refuse_if_stopped)
            self._ended = ("ok", None, "done")
            return references
        staged = [
            stage_output(work, item, self._made[item.name], self._stack)
            for item in work.plan.outputs
        ]
        return self._publish(work, staged)

    def move(self) -> Mapping[str, dict[str, Any]]:
        """Take the one input to the one output: in place of `open`, a body and `publish`.

        Returns:
            A Reference for the output, by its name.

        Raises:
            SecureMLError: As `open` and `publish`.
        """
        plan = self._begin()
        work = self._work = Work(desk=self._desk, plan=plan, journal=self._journal)
        (source,), (target,) = plan.inputs, plan.outputs
        check_output(work, target)
        return self._publish(work, [stage_move(work, source, target, self._stack)])

    def _open_remote(self, work: Work) -> Bound:
        """As `open`, for a body that gets addresses."""
        scratch = self._prepare_scratch(work) if work.plan.leases else None
        check_outputs_apart(work, work.plan.outputs)
        for output in () if work.plan.noted else work.plan.outputs:
            # Of a job that was deferred they were looked at before it began; what it wrote since
            # is nobody's until it is signed.
            check_output(work, output)
        self._remote = RemoteWork(work)
        bound = self._remote.before()
        if scratch is not None:
            self._shelter.await_guard()
        credentials = self._shelter.take_leases(work)
        self._journal.settle()
        return {**bound, **credentials}

    def _publish(self, work: Work, staged: list[Staged]) -> Mapping[str, dict[str, Any]]:
        bad = self._quarantined
        published = []
        if staged or bad:
            published = publish(work, [*bad, *staged], self._refuse_if_stopped)
        self._ended = ("ok", None, "done")
        return {one.staged.item.name: _reference(one) for one in published[len(bad) :]}

    def vouch_for(self, name: str) -> dict[str, Any]:
        """Sign that an input was found good, with the suite that it passed here.

        Nothing is signed for an input whose rows were parted, or whose signed verdict was taken.

        Returns:
            A Reference to the input.
        """
        assert self._work is not None
        opened, report = self._opened[name], self._reports.get(name)
        parted = any(one.item.name == f"{name}.quarantine" for one in self._quarantined)
        if report is None or parted:
            signers = [] if opened.verified is None else [r.name for r in opened.verified.signers]
            reference = reference_to(
                opened.item, opened.manifest, self._journal.intent or "", signers
            )
        else:
            suite = Suite(name=report.suite, digest=Digest.parse(report.suite_digest))
            key = self._desk.signing_key
            reference = vouch(self._work, opened.item, opened.manifest, key, suites=(suite,))
        return {**reference, "rows": None if report is None else report.rows}

    def end(self, ending: Ending, error: BaseException) -> None:
        """Say how the body was left; nothing is published."""
        self._body_error = error
        if ending in (Ending.PAUSED, Ending.SKIPPED):
            self._ended = ("ok", None, ending.value)
        else:
            step = "announce" if ending is Ending.UNANNOUNCED else "body"
            self._ended = ("failed", ending.value, step)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, SecureMLError) and error is not self._body_error:
            self._ended = (error.result, error.why, "package")
        elif self._ended is None:
            self._ended = ("failed", "bug", "package")
        failures: list[SecureMLError] = []
        settled = False
        try:
            # Each of them is due, whatever became of the one before.
            for leave in (self._stack.close, self._shelter.revoke_and_shred, self._record_end):
                settled = False
                try:
                    leave()
                    settled = True
                except SecureMLError as failure:
                    failures.append(failure)
                    self._ended = ("failed", failure.why, "leave")
        finally:
            self._shelter.let_go(settled=settled)
        if not failures:
            return
        # The body's own exception is what its author must see.
        if error is None:
            raise failures[0]
        self._journal.tell(f"when this run was left, this failed too: {failures[0]}")

    def _begin(self) -> Plan:
        """Point 1: the intent is durable before any key or byte is touched."""
        try:
            plan = self._make_plan()
        except BaseException:
            names = {
                "reads": [{"name": name} for name in self._declared.reads[:MAX_UNPLACED]],
                "writes": [{"name": name} for name in self._declared.writes[:MAX_UNPLACED]],
            }
            leases = list(self._declared.leases[:MAX_UNPLACED])
            self._journal.begin({**names, "leases": leases, "operator": self._declared.operator})
            raise
        # An event has room for so many addresses; of a longer list the rest follow, each in an
        # intent of its own, before the point is reached.
        self._journal.begin(
            {
                "reads": [_place(one) for one in plan.inputs[:MAX_NAMED]],
                "writes": [_place(one) for one in plan.outputs[:MAX_NAMED]],
                "leases": [one.path for one in plan.leases[:MAX_NAMED]] or None,
                "operator": self._declared.operator,
            },
            then=[
                *(("object.verify", {"object": _place(one)}) for one in plan.inputs[MAX_NAMED:]),
                *(("object.publish", {"object": _place(one)}) for one in plan.outputs[MAX_NAMED:]),
                *(
                    ("lease.grant", {"lease": {"path": one.path}})
                    for one in plan.leases[MAX_NAMED:]
                ),
            ],
        )
        return plan

    def _prepare_scratch(self, work: Work) -> ScratchDirectory | None:
        """A directory with room for all inputs, and its guard on its way."""
        plan = work.plan
        if not plan.outputs and not plan.leases and all(item.stream for item in plan.inputs):
            return None
        # Of a body that runs elsewhere only its credentials lie here.
        need = 0 if plan.is_remote else sum(size_of(work, item) for item in plan.inputs)
        return self._shelter.prepare(need)

    def _open_inputs(self, work: Work, scratch: ScratchDirectory | None) -> dict[str, Any]:
        opened: dict[str, list[Any]] = defaultdict(list)
        for item in work.plan.inputs:
            index = len(opened[item.name]) if item.name in work.plan.listed else None
            target = Path()
            if not item.stream:
                assert scratch is not None
                target = scratch.path_for(item.name, item.uri, index=index)
            one = open_input(work, item, target, self._stack, self._shelter.await_guard)
            self._opened[item.name] = one
            opened[item.name].append(self._checked(work, one))
        self._shelter.await_guard()
        return {
            name: several if name in work.plan.listed else several[0]
            for name, several in opened.items()
        }

    def _checked(self, work: Work, opened: OpenedInput) -> Path | BinaryIO:
        """An input as the body gets it: whole, or its good rows."""
        if opened.item.suite is None:
            return opened.value
        checked = check_input(work, opened)
        self._reports[opened.item.name] = checked.report
        if checked.bad_rows is not None:
            # Before the body could change them, and out of its reach.
            output = _quarantine_output(opened.item)
            self._quarantined.append(stage_output(work, output, checked.bad_rows, self._stack))
            checked.bad_rows.unlink()
        return checked.value

    def _refuse_if_stopped(self) -> None:
        if self._stopped:
            raise PolicyError(
                "Airflow asked this task to stop; nothing was published", why="try_replaced"
            )
        self._desk.still_ours()

    def _record_end(self) -> None:
        """Point 4: how it ended is durable before the task returns or raises."""
        assert self._ended is not None
        result, why, step = self._ended
        more: dict[str, object] = {"step": step}
        if self._work is not None:
            more |= {
                "reads": len(self._work.plan.inputs),
                "writes": len(self._work.plan.outputs),
                "leases": len(self.leased),
            }
        if self._journal.intent is not None:
            self._journal.ended(result, why, more)
            self._journal.settle()


def _place(one: Input | Output) -> dict[str, object]:
    return {"name": one.name, "uri": one.uri}


def _quarantine_outputs(plan: Plan) -> list[Output]:
    return [_quarantine_output(item) for item in plan.inputs if item.quarantine is not None]


def _quarantine_output(item: Input) -> Output:
    assert item.quarantine is not None
    return Output(name=f"{item.name}.quarantine", uri=item.quarantine)


def _reference(one: Published) -> dict[str, Any]:
    staged = one.staged
    return reference(
        name=staged.item.name,
        uri=staged.item.uri,
        manifest=staged.manifest,
        size_bytes=staged.plaintext_bytes,
        signed_by=[one.signer.name],
        event=one.event,
        version=one.version,
        rows=None if staged.report is None else staged.report.rows,
        key=None if staged.key is None else str(staged.key),
    )
