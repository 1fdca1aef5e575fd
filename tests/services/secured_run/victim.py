"""A process whose children run one secured task each and are killed at a step, or from outside.

One JSON line in: the content to write, the step at which to die, or that it waits at its end to be
killed. Lines out: the child's pid, each step it passed, each event that it knows to be durable; at
last, when nothing that it started is left, how it ended. Imports are done once, so that two hundred
children take a minute.
"""

from __future__ import annotations

import ctypes
import dataclasses
import importlib.util
import json
import os
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def conftest():
    spec = importlib.util.spec_from_file_location("bench", Path(__file__).parent / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def say(**facts):
    # One write, so lines of two processes never mix.
    os.write(1, json.dumps(facts).encode() + b"\n")


class Steps:
    """Where a run is, and where it ends: at a step that it came by so often before."""

    def __init__(self, last, skip=0):
        self.last, self.skip = last, skip

    def __call__(self, name):
        say(step=name)
        if name == self.last:
            self.skip -= 1
            if self.skip < 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Sink:
    """A sink that tells which events are durable."""

    def __init__(self, sink, step):
        self.sink, self.step, self.names, self.points = sink, step, [], 0

    def record(self, fact):
        self.names.append(self.sink.record(fact))
        self.step(f"recorded {fact.act} {fact.phase}")
        return self.names[-1]

    def settle(self):
        self.sink.settle()
        say(acked=self.names)
        self.points += 1
        self.step(f"point {self.points}")

    def close(self):
        self.sink.close()


class Guard:
    """A guard that tells when it is asked and has answered."""

    def __init__(self, guard, step):
        self.guard, self.step, self.is_ready = guard, step, False

    def ready(self):
        self.guard.ready()
        if not self.is_ready:
            self.is_ready = True
            self.step("guard ready")

    def finish(self):
        self.step("before shredding")
        report = self.guard.finish()
        self.step("shredded")
        return report

    def bye(self, recorded):
        self.guard.bye(recorded)
        self.step("let go")

    def leave(self):
        self.guard.leave()


class Store:
    """A store that tells what is written and published."""

    def __init__(self, store, step, where):
        self.store, self.step, self.where = store, step, where

    def __getattr__(self, name):
        return getattr(self.store, name)

    def create(self, uri):
        return self.telling(self.store.create(uri), uri)

    def create_directory(self, uri):
        builder = self.telling(self.store.create_directory(uri), uri)
        create = builder.create
        builder.create = lambda relative: self.telling(create(relative), f"{uri}/{relative}")
        return builder

    def telling(self, writer, uri):
        if self.where == "scratch":
            what = f"scratch {uri.split('/')[-2]}"
        else:
            name, statement, _ = uri.rpartition("/data/")[2].partition(".sig/")
            what = f"statement of {name}" if statement else f"target {name}"
        for act in ("write_at", "commit"):
            if hasattr(writer, act):
                setattr(writer, act, self.around(getattr(writer, act), f"{act} {what}"))
        return writer

    def around(self, call, name):
        def called(*arguments, **how):
            self.step(f"before {name}")
            result = call(*arguments, **how)
            self.step(f"after {name}")
            return result

        return called


def run(bench, module, step, content):
    """One secured task: an input, a file and a directory as outputs."""

    def watched(desk):
        def make_scratch(need):
            made = desk.make_scratch(need)
            step("scratch made")
            return made

        def guard(root):
            made = Guard(desk.guard(root), step)
            step("guard started")
            return made

        return dataclasses.replace(
            desk,
            make_scratch=make_scratch,
            guard=guard,
            store=lambda uri: Store(desk.store(uri), step, "target"),
            scratch_store=Store(desk.scratch_store, step, "scratch"),
        )

    bench.change = watched
    plan = module.a_plan(
        inputs=[module.Input(name="table", uri=bench.uri("table"))],
        outputs=[module.Output(name=name, uri=bench.uri(name)) for name in ("a", "b")],
    )

    def body(bound):
        (bound["table"].parent / "notes").write_text(content)
        bound["a"].write_text(content)
        step("in the body")
        bound["b"].mkdir()
        for name in ("one", "two"):
            (bound["b"] / name).write_text(content)
        step("body done")

    sink = Sink(bench.sink(), step)
    bench.run(plan, body, sink=sink)
    sink.close()
    step("closed")


def serve(folder, shm, act):
    """Run one task for each order, in a child; `act` gets the bench, its module and the order."""
    # Guardians of killed children become this process's own: it knows when the last has ended.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    module = conftest()
    bench = module.Bench(Path(folder), Path(shm))
    say(ready=True)
    for line in sys.stdin:
        order = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                act(bench, module, {**order, "step": Steps(order["step"], order.get("skip", 0))})
                while order["waits"]:
                    signal.pause()
                os._exit(0)
            finally:
                os._exit(1)
        say(pid=child)
        statuses = {}
        while True:
            try:
                ended, status = os.waitpid(-1, 0)
            except ChildProcessError:
                break
            statuses[ended] = status
        say(over=os.waitstatus_to_exitcode(statuses[child]))


def main(folder, shm):
    serve(
        folder,
        shm,
        lambda bench, module, order: run(bench, module, order["step"], order["content"]),
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
