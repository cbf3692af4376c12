from __future__ import annotations

from itertools import pairwise

import pytest

from tools.performance.cluster.workload import FIRST_ID, LAST_ID, Mix, arrivals, burst

MIX = Mix(n_users=50, period_s=20, n_groups=3, n_system=40, n_message=10, n_answer=20, n_ctx=300)


def test_the_same_seed_gives_the_same_jobs_and_another_one_others() -> None:
    jobs = list(arrivals(MIX, 60, 1))
    assert jobs == list(arrivals(MIX, 60, 1))
    assert {job.token_ids for job in jobs}.isdisjoint(job.token_ids for job in arrivals(MIX, 60, 2))


def test_jobs_come_in_order_at_the_rate_of_the_users() -> None:
    jobs = list(arrivals(MIX, 400, 0))
    assert [job.number for job in jobs] == list(range(len(jobs)))
    assert all(a.arrival_s <= b.arrival_s < 400 for a, b in pairwise(jobs))
    assert len(jobs) / 400 == pytest.approx(MIX.jobs_per_s, rel=0.1)


def test_users_of_a_group_share_a_beginning_and_conversations_grow_within_the_context() -> None:
    jobs = list(arrivals(MIX, 200, 0))
    assert len({job.token_ids[:40] for job in jobs}) == 3
    assert all(len(job.token_ids) + len(job.answer_ids) <= MIX.n_ctx for job in jobs)
    assert all(
        job.answer_ids and FIRST_ID <= min(job.token_ids) <= max(job.token_ids) < LAST_ID for job in jobs
    )
    texts = {job.token_ids + job.answer_ids for job in jobs}
    assert any(job.token_ids[: len(text)] == text for job in jobs for text in texts)


def test_a_burst_is_one_first_message_of_each_user_at_once() -> None:
    jobs = list(burst(MIX, 7))
    assert [(job.number, job.arrival_s) for job in jobs] == [(i, 0.0) for i in range(7)]
    assert len({job.token_ids for job in jobs}) == 7
