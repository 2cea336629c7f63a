"""Memory, threads and processes."""

import gc
import multiprocessing
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import fixnet


def resident():
    """Bytes of memory that the process has."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="memory is read from /proc")
def test_memory_does_not_grow_over_10_000_calls(run):
    x = np.random.default_rng(0).normal(size=(64, 784)).astype(np.float32)
    levels = fixnet.quantize(x, 4).levels
    predictor, images = run.predictor(), np.zeros((4, 28, 28), np.uint8)
    net = fixnet.nn.Network(fixnet.nn.Linear(784, 10), (784,))

    def call(i):
        fixnet.quantize(x, 4)
        fixnet.quantize_gradient(x, 4)
        fixnet.matmul_codes(levels, levels.T, bits=4)
        if i % 10 == 0:
            predictor.predict(images)
            net.gradients(x[:8], np.zeros(8))
        try:
            fixnet.quantize(x, 99)
        except fixnet.ConfigError:
            pass

    for i in range(500):
        call(i)
    gc.collect()
    before = resident()
    for i in range(10_000):
        call(i)
    gc.collect()
    assert resident() - before < 8 << 20


def test_steps_leave_no_memory_behind():
    session = fixnet.Session("mlp-digits", epochs=1)
    batch = next(session.batches())
    for _ in range(20):
        session.step(batch)
    before = resident() if os.path.exists("/proc/self/statm") else 0
    for _ in range(300):
        session.step(batch)
    assert before == 0 or resident() - before < 8 << 20


def test_threads_share_a_network_and_have_sessions_of_their_own(run):
    predictor = run.predictor()
    images = np.random.default_rng(0).integers(0, 256, (32, 28, 28), dtype=np.uint8)
    expected = predictor.predict_proba(images)
    found, digests = [], []

    def work():
        for _ in range(5):
            found.append(predictor.predict_proba(images))
        session = fixnet.Session("mlp-digits")
        for batch, _ in zip(session.batches(), range(5)):
            session.step(batch)
        digests.append(session.digest)

    threads = [threading.Thread(target=work) for _ in range(6)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(found) == 30 and all((one == expected).all() for one in found)
    assert len(digests) == 6 and len(set(digests)) == 1


def test_a_session_that_is_busy_is_refused_and_not_broken():
    session = fixnet.Session("mlp-digits")
    batch = next(session.batches())
    errors = []

    def work():
        for _ in range(30):
            try:
                session.step(batch)
            except RuntimeError as e:
                errors.append(e)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert session.steps + len(errors) == 120


def test_other_python_threads_run_while_fixnet_computes():
    ticks, done = [], threading.Event()

    def tick():
        while not done.wait(0.001):
            ticks.append(1)

    thread = threading.Thread(target=tick)
    thread.start()
    session = fixnet.Session("digits", epochs=1)
    session.train_epoch()
    done.set()
    thread.join()
    assert len(ticks) > 10


def digest_in_a_process(_):
    session = fixnet.Session("mlp-digits")
    for batch, _ in zip(session.batches(), range(3)):
        session.step(batch)
    return session.digest


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_that_are_forked_or_spawned_compute(method):
    expected = digest_in_a_process(0)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map_async(digest_in_a_process, range(4)).get(timeout=120) == [expected] * 4
    assert digest_in_a_process(0) == expected


def test_the_number_of_threads_changes_no_bit():
    before = fixnet.get_num_threads()
    try:
        digests = set()
        for count in (1, 3):
            fixnet.set_num_threads(count)
            assert fixnet.get_num_threads() == count
            digests.add(digest_in_a_process(0))
        assert len(digests) == 1
    finally:
        fixnet.set_num_threads(before)


def test_the_command_is_an_entry_point(command, tmp_path):
    done = command("info")
    assert done.returncode == 0 and "scalar" in done.stdout, done.stderr
    assert command("train", "no-such").returncode == 2
    script = os.path.join(os.path.dirname(sys.executable), "fixnet")
    if os.path.exists(script):
        assert subprocess.run([script, "--version"], capture_output=True, text=True).stdout.startswith("fixnet")
