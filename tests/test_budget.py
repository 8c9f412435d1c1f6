"""What fits into the time that is left: a clock turned by hand."""

from steel.kaggle.budget import Budget, Work


class Clock:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def work(self, seconds: float) -> str:
        self.now_s += seconds
        return f"{seconds} s"


WHOLE = Work({"gate": 2}, {"fpn": 6, "unet": 6})  # 2 x 1 s always, 12 x 2 s where the gate is open
ONE = Work({"gate": 2}, {"fpn": 6})
LEAST = Work({"gate": 1}, {"fpn": 1})


def after(n: int, limit_s: float, first_s: float = 0.0) -> Budget:
    """After n batches of the whole, half of them open: 2 s gate, 24 s maps, 1 s of other things for each."""
    clock = Clock()
    budget = Budget(limit_s, clock)
    for i in range(n):
        more_s = first_s if i == 0 else 0.0
        assert budget.timed("gate", 2, lambda more_s=more_s: clock.work(2 + more_s)).endswith("s")  # type: ignore[misc]
        if i % 2 == 0:
            for name in ("fpn", "unet"):
                budget.timed(name, 6, lambda more_s=more_s: clock.work(12 + more_s))  # type: ignore[misc]
        clock.now_s += 1
    return budget


def test_what_the_rest_needs() -> None:
    budget = after(6, 1000)
    assert budget.spent_s == 6 * (2 + 1) + 3 * 24
    assert budget.needed_s(WHOLE, 6, 10, 5) == 10 * (1 + 2) + 5 * 24
    assert budget.needed_s(ONE, 6, 10, 5) == 10 * (1 + 2) + 5 * 12
    assert budget.needed_s(LEAST, 6, 10, 5) == 10 * (1 + 1) + 5 * 2
    assert budget.needed_s(WHOLE, 6, 0, 0.5) == 12


def test_the_first_way_that_fits_is_taken() -> None:
    """After 6 batches, 90 s: 10 more need 150, 90 or 30 s."""
    ways = [WHOLE, ONE, LEAST]
    for limit_s, way in ((241, 0), (240, 0), (239, 1), (180, 1), (179, 2), (91, 2)):
        assert after(6, limit_s).choose(ways, 0, 6, 10, 5) == way
    assert after(6, 1000).choose(ways, 1, 6, 10, 5) == 1  # never back
    assert after(6, 179).choose(ways[:1], 0, 6, 10, 5) == 0


def test_a_slow_start_is_no_reason_to_hurry() -> None:
    """The first calls take 60 s more, as on a GPU that is still looking for its kernels."""
    ways = [WHOLE, LEAST]
    early, later = after(4, 1000, first_s=60), after(6, 700, first_s=60)
    assert early.choose(ways, 0, 4, 100, 50) == 0  # the maps were called twice: nothing is known yet
    assert after(4, 900, first_s=60).choose(ways, 0, 4, 100, 50) == 1  # but of 900 s more than a quarter is gone, 240 s
    assert later.needed_s(WHOLE, 6, 10, 5) == 150  # the 180 s of the first calls are not counted on
    assert later.choose(ways, 0, 6, 10, 5) == 0


def test_what_came_before_the_batches_is_not_counted_for_each() -> None:
    """40 s on loading weights, then batches of 2 s: 10 more need 20 s, of the 56 that are left of 100."""
    clock = Clock()
    budget = Budget(100, clock)
    clock.work(40)
    budget.begin()
    for _ in range(2):
        budget.timed("gate", 1, lambda: clock.work(1))
        clock.now_s += 1
    assert budget.needed_s(LEAST, 2, 10, 0) == 20
    assert budget.spent_s == 44
    assert budget.choose([Work({"gate": 1}, {}), Work({}, {})], 0, 2, 28, 0) == 0
    assert budget.choose([Work({"gate": 1}, {}), Work({}, {})], 0, 2, 29, 0) == 1


def test_a_model_that_was_never_needed_costs_nothing() -> None:
    clock = Clock()
    budget = Budget(100, clock)
    for _ in range(3):
        budget.timed("gate", 2, lambda: clock.work(2))
    assert budget.needed_s(WHOLE, 3, 10, 0) == 20
    assert budget.choose([WHOLE, LEAST], 0, 3, 10, 0) == 0


def test_the_end() -> None:
    clock = Clock()
    budget = Budget(30, clock)
    clock.work(29.5)
    assert not budget.is_over
    clock.work(0.5)
    assert budget.is_over and budget.spent_s == 30
