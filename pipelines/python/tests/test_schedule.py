"""Who gets which partition: order, retries, copies of stragglers, partitions that end workers."""

import itertools
from collections import Counter

import pytest

from vqtok._schedule import (
    Died,
    Failed,
    Gone,
    Partition,
    Receipt,
    Refused,
    Schedule,
    coordinate,
)


def parts(*sizes):
    return [Partition(number, 10, size) for number, size in enumerate(sizes)]


def receipt(worker, partition, commit="committed", failed=0):
    fields = {"partition": partition, "commit": commit, "written": 10 - failed, "failed": failed}
    return Receipt(worker, {**fields, "sha256": "ab"})


def numbers(schedule, workers, now=0.0):
    jobs = [schedule.next(worker, worker, now) for worker in workers]
    return [job and job.partition.number for job in jobs]


def test_the_largest_is_first():
    schedule = Schedule(parts(5, 9, 1, 9, 7))
    assert numbers(schedule, "abcde") == [1, 3, 4, 0, 2]
    assert schedule.images == 50 and not schedule.finished


def test_what_a_lost_worker_was_at_is_made_again_and_counts_for_nothing():
    schedule = Schedule(parts(3, 2))
    assert numbers(schedule, "ab") == [0, 1]
    for _ in range(10):
        schedule.apply(Gone("a", "its node was lost"), 1.0)
        job = schedule.next("a", "a", 1.0)
        assert (job.partition.number, job.deaths, job.copy) == (0, 0, False)
    schedule.apply(receipt("a", 0), 2.0)
    schedule.apply(receipt("b", 1), 2.0)
    assert schedule.finished and schedule.totals.gone == 10 and schedule.totals.deaths == 0
    assert (schedule.totals.images, schedule.totals.written) == (20, 20)


def test_what_takes_node_after_node_with_it_ends_the_job():
    schedule = Schedule(parts(3))
    for _ in range(19):
        schedule.next("a", "a", 0.0)
        schedule.apply(Gone("a", "its node was lost"), 0.0)
    schedule.next("a", "a", 0.0)
    with pytest.raises(Failed, match="partition 0: 20 workers were lost") as raised:
        schedule.apply(Gone("a", "its node was lost"), 0.0)
    assert raised.value.exit_code == 75


def test_a_worker_that_was_idle_is_lost():
    schedule = Schedule(parts(3))
    schedule.apply(Gone("a", "its node was lost"), 1.0)
    assert numbers(schedule, "b") == [0]


def test_a_partition_that_ends_workers_is_given_up_and_then_is_the_jobs_end():
    schedule = Schedule(parts(3))
    for deaths in range(3):
        assert schedule.next("a", "a", 0.0).deaths == deaths
        schedule.apply(Died("a", "signal 11"), 0.0)
    assert schedule.next("a", "a", 0.0).deaths == 3
    schedule.apply(receipt("a", 0, failed=10), 0.0)
    assert schedule.finished
    assert (schedule.totals.given_up, schedule.totals.failed, schedule.totals.deaths) == (1, 10, 3)

    schedule = Schedule(parts(3))
    for _ in range(5):
        schedule.next("a", "a", 0.0)
        schedule.apply(Died("a", "signal 11"), 0.0)
    schedule.next("a", "a", 0.0)
    with pytest.raises(Failed, match=r"partition 0 ends every worker.*signal 11"):
        schedule.apply(Died("a", "signal 11"), 0.0)


def test_what_is_busy_is_tried_again_later_and_later():
    schedule = Schedule(parts(3))
    now = 0.0
    for wait in (1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0):
        assert numbers(schedule, "a", now) == [0]
        schedule.apply(Refused("a", "the store doesn't answer", 75), now)
        assert numbers(schedule, "a", now + wait - 0.1) == [None]
        now += wait
    schedule.next("a", "a", now)
    with pytest.raises(Failed, match="store doesn't answer") as raised:
        schedule.apply(Refused("a", "the store doesn't answer", 75), now)
    assert raised.value.exit_code == 75


def test_what_is_refused_by_three_is_the_jobs_error():
    schedule = Schedule(parts(3, 2))
    for _ in range(2):
        schedule.next("a", "a", 0.0)
        schedule.apply(Refused("a", "disk full", 2), 0.0)
    assert numbers(schedule, "a") == [0]
    with pytest.raises(Failed, match="partition 0: disk full") as raised:
        schedule.apply(Refused("a", "disk full", 2), 0.0)
    assert raised.value.exit_code == 2


def test_a_straggler_is_made_a_second_time_and_the_first_receipt_counts():
    schedule = Schedule(parts(9, 8, 7))
    assert numbers(schedule, "abc") == [0, 1, 2]
    assert numbers(schedule, "d", 100.0) == [None]  # Nobody knows what is usual.
    schedule.apply(receipt("c", 2), 4.0)
    assert numbers(schedule, "c", 5.9) == [None]
    job = schedule.next("c", "c", 6.1)  # 4 s are usual, 6 s are late.
    assert (job.partition.number, job.copy) == (0, True)
    assert numbers(schedule, "de", 6.2) == [1, None]  # Each once more, not twice.
    schedule.apply(receipt("c", 0), 7.0)
    schedule.apply(receipt("a", 0, commit="already"), 8.0)
    schedule.apply(receipt("d", 1), 8.0)
    schedule.apply(receipt("b", 1, commit="lost"), 8.0)
    totals = schedule.totals
    assert schedule.finished
    assert (totals.images, totals.written, totals.partitions) == (30, 30, 3)
    assert (totals.copies, totals.differing, totals.already) == (2, 1, 0)
    assert totals.by_node == Counter(c=20, d=10)


@pytest.mark.parametrize(
    "end", [Died("a", "signal 9"), Gone("a", "cut off"), Refused("a", "busy", 75)]
)
def test_the_end_of_who_came_second_is_nothing(end):
    schedule = Schedule(parts(9, 8, 7))
    numbers(schedule, "abc")
    schedule.apply(receipt("c", 2), 1.0)
    assert numbers(schedule, "c", 50.0) == [0]
    schedule.apply(receipt("c", 0), 51.0)
    schedule.apply(end, 52.0)
    assert numbers(schedule, "c", 52.0) == [1]
    assert numbers(schedule, "a", 99.0) == [None]
    assert schedule.totals.deaths == schedule.totals.busy == 0


def test_short_work_is_no_straggler():
    schedule = Schedule(parts(9, 8))
    numbers(schedule, "ab")
    schedule.apply(receipt("b", 1), 0.1)
    assert numbers(schedule, "b", 4.9) == [None]
    assert numbers(schedule, "b", 5.1) == [0]


def test_a_copy_is_made_on_another_node_if_it_can_be():
    schedule = Schedule(parts(9, 8, 7))
    for worker, node in (("a", "one"), ("b", "two"), ("c", "one")):
        schedule.next(worker, node, 0.0)
    schedule.apply(receipt("c", 2), 1.0)
    assert schedule.next("c", "one", 50.0).partition.number == 1


def test_what_has_ended_a_worker_is_given_to_one_alone():
    schedule = Schedule(parts(9, 8))
    numbers(schedule, "ab")
    schedule.apply(receipt("b", 1), 1.0)
    schedule.apply(Died("a", "signal 9"), 1.0)
    assert numbers(schedule, "a", 1.0) == [0]
    assert numbers(schedule, "b", 100.0) == [None]


def test_of_two_copies_one_may_be_lost():
    schedule = Schedule(parts(9, 8))
    numbers(schedule, "ab")
    schedule.apply(receipt("b", 1), 1.0)
    assert numbers(schedule, "b", 100.0) == [0]
    schedule.apply(Gone("a", "cut off"), 101.0)
    assert numbers(schedule, "c", 101.0) == [None]  # b is at it.
    schedule.apply(Gone("b", "cut off"), 102.0)
    assert numbers(schedule, "c", 102.0) == [0]


class FakePool:
    """Workers in a time of their own: each partition takes a second, things go wrong as told."""

    def __init__(self, workers, wrong):
        self.now = 0.0
        self.work = {}
        self.alive = list(workers)
        self.wrong = wrong
        self.made = Counter()
        self.asked = []

    def idle(self):
        return [(name, name) for name in self.alive if name not in self.work]

    def submit(self, worker, job):
        self.asked.append(job)
        self.work[worker] = (self.now + 1.0, job)

    def wait(self, seconds):
        self.now += seconds
        events = []
        for worker, (due, job) in list(self.work.items()):
            if due > self.now:
                continue
            del self.work[worker]
            number = job.partition.number
            wrong = self.wrong(number, job)
            if wrong == "gone":
                self.alive.remove(worker)
                self.alive.append(worker + "'")
                events.append(Gone(worker, "its node was lost"))
            elif wrong == "died":
                events.append(Died(worker, "signal 9"))
            elif wrong == "busy":
                events.append(Refused(worker, "busy", 75))
            else:
                self.made[number] += 1
                failed = 10 if job.deaths >= 3 else 0
                events.append(receipt(worker, number, failed=failed))
        return events


def test_everything_is_made_once_whatever_goes_wrong():
    turn = itertools.count()

    def wrong(number, job):
        if number == 7 and job.deaths < 3:
            return "died"
        return {0: "gone", 1: "busy"}.get(next(turn) % 5)

    pool = FakePool("abc", wrong)
    schedule = Schedule(parts(*range(40)))
    told = []
    coordinate(schedule, pool, lambda: told.append(schedule.totals.images), lambda: pool.now)
    assert set(pool.made) == set(range(40)) and max(pool.made.values()) == 1
    assert (schedule.totals.images, schedule.totals.given_up) == (400, 1)
    assert (schedule.totals.deaths, schedule.totals.failed) == (3, 10)
    assert told == sorted(told) and told[-1] == 400


def test_a_job_of_nothing_is_done():
    coordinate(Schedule([]), FakePool("", None), lambda: None)
