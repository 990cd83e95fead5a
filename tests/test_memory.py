"""What memories hold, and what is replayed from them."""

from collections import defaultdict, deque

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from metareplay.errors import BadInput
from metareplay.methods.memory import Reservoir, RingPerTask


class Table:
    """All that a memory needs of a learner: slots that can be copied. Each holds the number of an example, or -1."""

    def __init__(self, capacity, batch_size=1):
        self.batch_size = batch_size
        self.slots = batch_size + capacity
        self.example = np.full(self.slots, -1)
        self.copies = 0

    def copy(self, source, target):
        assert 0 <= source < self.batch_size, "only what just came is offered"
        assert self.batch_size <= target < self.slots, "the batch's slots are not the memory's"
        self.example[target] = self.example[source]
        self.copies += 1

    @property
    def memories(self):
        """The examples in the memory's slots, without the empty ones."""
        kept = self.example[self.batch_size :]
        return kept[kept >= 0]


def reservoir(capacity, seed=0, batch_size=1):
    table = Table(capacity, batch_size)
    return Reservoir(table, np.random.default_rng(seed)), table


def offer(memory, table, examples):
    for example in examples:
        row = example % table.batch_size
        table.example[row] = example
        memory.offer(row)


def fair(counts):
    """Whether counts are neither further from equal nor closer to it than chance has them in one of 2000 times."""
    return 2.5e-4 < scipy.stats.chisquare(counts).pvalue < 1 - 2.5e-4


@pytest.mark.parametrize(("capacity", "recency"), [(40, 100), (100, 100), (300, 100)])
def test_with_a_recency_ages_are_exponential_with_that_mean(capacity, recency):
    ages = []
    for seed in range(60):
        table = Table(capacity)
        memory = Reservoir(table, np.random.default_rng(seed), recency=recency)
        offer(memory, table, range(1200))
        assert memory.held == len(table.memories) == min(capacity, recency)
        ages.append(1199 - table.memories)
    old = np.concatenate(ages)
    for age in (30, 100, 200):  # standard errors are below .01
        assert np.mean(old >= age) == pytest.approx((1 - 1 / recency) ** age, abs=0.04)


def test_before_a_recency_is_reached_the_reservoir_is_a_plain_one():
    tables = []
    for recency in (0, 200):
        table = Table(20)
        offer(Reservoir(table, np.random.default_rng(3), recency=recency), table, range(200))
        tables.append(table.example.tolist())
    assert tables[0] == tables[1]


def test_every_offered_example_is_equally_likely_to_be_held():
    capacity, offered, reservoirs = 5, 20, 20_000
    held = np.zeros(offered, np.int64)
    places = np.zeros((capacity, offered), np.int64)
    memory, table = reservoir(capacity)
    for _ in range(reservoirs):
        memory.offered = 0  # another reservoir, which goes on with the same generator
        offer(memory, table, range(offered))
        held[table.memories] += 1
        places[np.arange(capacity), table.memories] += 1
    # Held with probability 1/4: the counts of one reservoir sum to 5, so their spread is that of draws without return.
    expected = reservoirs * capacity / offered
    spread = (1 - capacity / offered) * offered / (offered - 1)
    assert held.sum() == reservoirs * capacity
    assert fair((held - expected) / spread**0.5 + expected)
    # Nor do the first examples keep to their slots more than others once they have been replaced …
    assert fair(places[:, capacity:].ravel())
    # … and an early example is only ever in the slot where it came in.
    assert (places[:, :capacity] == np.diag(held[:capacity])).all()


@settings(deadline=None, derandomize=True)
@given(capacity=st.integers(0, 12), offered=st.integers(0, 40), batch_size=st.integers(1, 4), seed=st.integers(0, 1000))
def test_a_reservoir_holds_different_examples_as_many_as_fit(capacity, offered, batch_size, seed):
    memory, table = reservoir(capacity, seed, batch_size)
    offer(memory, table, range(offered))
    assert memory.held == min(capacity, offered)
    assert len(set(table.memories)) == len(table.memories) == memory.held
    if offered <= capacity:
        assert (table.memories == np.arange(offered)).all()
    drawn = memory.draw(3, 5)
    assert drawn.shape == (3, min(5, memory.held))
    assert ((batch_size <= drawn) & (drawn < batch_size + memory.held)).all()


def test_memories_are_replayed_with_replacement_and_independently():
    memory, table = reservoir(8)
    offer(memory, table, range(8))
    drawn = memory.draw(20_000, 2) - 1
    assert fair(np.bincount(drawn[:, 0] * 8 + drawn[:, 1], minlength=64))
    assert fair(np.bincount(drawn[:-1, 1] * 8 + drawn[1:, 0], minlength=64))


def test_drawing_and_keeping_do_not_change_each_other_however_many_batches_come_at_once():
    quiet, quiet_table = reservoir(10)
    busy, busy_table = reservoir(10)
    for example in range(200):
        offer(quiet, quiet_table, range(example, example + 1))
        offer(busy, busy_table, range(example, example + 1))
        busy.draw(example % 5, 7)
    assert (quiet_table.memories == busy_table.memories).all()
    (one, one_table), (two, two_table) = reservoir(10), reservoir(10)
    offer(one, one_table, range(10))
    offer(two, two_table, range(1000))
    assert (one.draw(6, 7) == np.concatenate([two.draw(1, 7) for _ in range(6)])).all()


@settings(deadline=None, derandomize=True)
@given(per_task=st.integers(0, 5), tasks=st.integers(1, 5), batch_size=st.integers(1, 3), data=st.data())
def test_a_ring_holds_the_newest_examples_of_each_task(per_task, tasks, batch_size, data):
    table = Table(per_task * tasks, batch_size)
    memory = RingPerTask(table, tasks)
    assert memory.per_task == per_task
    model = defaultdict(lambda: deque(maxlen=per_task))
    of_task = data.draw(st.lists(st.integers(0, tasks - 1), max_size=40))
    for example, task in enumerate(of_task):
        row = example % batch_size
        table.example[row] = example
        memory.offer(row, task)
        model[task].append(example)
        if example == len(of_task) // 2:  # saved and loaded on the way
            state = memory.state()
            memory = RingPerTask(table, tasks)
            memory.load_state(state)
    for task in range(tasks):
        assert sorted(table.example[memory.rows(task)]) == list(model[task])
    assert memory.filled() == sorted(task for task, kept in model.items() if kept)


def test_a_ring_shares_out_the_slots_that_divide():
    memory = RingPerTask(Table(11, 1), 3)
    for example in range(30):
        memory.offer(0, example % 3)
    assert [len(memory.rows(task)) for task in range(3)] == [3, 3, 3]


@pytest.mark.parametrize("place", [0, -1])
def test_the_current_example_stands_at_its_place_among_memories(place):
    memory, table = reservoir(capacity=4)
    assert memory.draw_beside(0, 2, 3, place).tolist() == [[0], [0]]  # alone while nothing is held
    offer(memory, table, range(9))
    drawn = memory.draw_beside(0, 50, 3, place)
    assert drawn.shape == (50, 4)
    assert (drawn[:, place] == 0).all()
    assert set(np.delete(drawn, place, 1).ravel()) == {1, 2, 3, 4}


def test_a_capacity_is_a_part_of_the_table_and_offer_says_where_the_example_went():
    table = Table(10)
    memory = Reservoir(table, np.random.default_rng(0), 3)
    slots = [memory.offer(0) for _ in range(40)]
    assert slots[:3] == [memory.first, memory.first + 1, memory.first + 2]
    assert set(slots) == {None, *slots[:3]}
    assert memory.held == 3
    with pytest.raises(BadInput, match="needs as many slots, but the table has 10"):
        Reservoir(table, np.random.default_rng(0), 11)
