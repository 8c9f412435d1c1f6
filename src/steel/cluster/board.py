"""How the jobs of a cluster stand: they say that they begin, and one view shows them all."""

import sys
from collections import Counter
from collections.abc import Container, Sequence
from typing import Literal

from tqdm import tqdm

from steel.progress import say

State = Literal["waiting", "running", "done", "failed"]


class Board:
    """Where jobs say that they begin; an actor of Ray beside the program that has started them."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, str]] = []
        self.told = 0

    def begin(self, job: int, node_id: str) -> None:
        """Note that a job begins on a node."""
        self.begun.append((job, node_id))

    def news(self) -> list[tuple[int, str]]:
        """Jobs that have begun since the last call, and on which nodes."""
        news = self.begun[self.told :]
        self.told = len(self.begun)
        return news


class View:
    """One line per change of a job, with the numbers of all; on a terminal a bar below."""

    def __init__(self, names: Sequence[str]) -> None:
        self.states: dict[str, State] = dict.fromkeys(names, "waiting")
        self.nodes: dict[str, tuple[str, str]] = {}  # id and name of the node that each has begun on
        self.bar = tqdm(total=len(names), unit="job", leave=False, disable=not sys.stderr.isatty())

    def begin(self, job: str, node_id: str, node: str) -> None:
        """A job has begun on a node, for the first time or again; nothing is said of one that has ended since."""
        if self.states[job] in ("done", "failed"):
            return
        before = self.nodes.get(job)
        self.nodes[job] = (node_id, node)
        self._change(job, "running", f"goes on on {node}, lost on {before[1]}" if before else f"running on {node}")

    def lose(self, alive: Container[str]) -> None:
        """Jobs on nodes that are alive no more wait for others."""
        for job, (node_id, node) in self.nodes.items():
            if self.states[job] == "running" and node_id not in alive:
                self._change(job, "waiting", f"node {node} is gone, waits for another")

    def end(self, job: str, fault: str) -> None:
        """A job has ended; `fault`: why it failed, or nothing."""
        self.bar.update()
        self._change(job, "failed" if fault else "done", f"failed: {fault}" if fault else "done")

    def close(self) -> None:
        """Take the bar away."""
        self.bar.close()

    def _change(self, job: str, state: State, how: str) -> None:
        self.states[job] = state
        numbers = Counter(self.states.values())
        counts = ", ".join(f"{numbers[s]} {s}" for s in ("done", "running", "waiting", "failed"))
        self.bar.set_postfix_str(counts)
        say(f"{job}: {how} ({counts})")
