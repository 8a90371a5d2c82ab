# SPDX-License-Identifier: Apache-2.0
"""Batches in memory that is used again equal torch's, and nobody ever sees another batch's numbers."""

import gc
import os
import signal
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from numbered_items import KINDS, WIDE, NumberedItems, failing_at_five, picture, with_a_view
from pool_dataset import write_dataset
from torch.utils.data._utils.collate import collate_tensor_fn, default_collate_fn_map

from lerobot_ext.data import batch_slots, batches, hook, ram_reader
from lerobot_ext.data.batch_slots import Slots

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="batches are stock's there")

FLOAT = str(torch.float32)
STARTS = [(0, None), (2, "fork"), (2, "spawn")]
MIB = 2**20
ITEM = 3 * 64 * 96 * 4


@pytest.fixture
def ours():
    assert batches.install()
    yield
    batches.uninstall()
    gc.collect()
    assert default_collate_fn_map[torch.Tensor] is collate_tensor_fn


def load(dataset, workers=1, start="fork", **options):
    return torch.utils.data.DataLoader(
        dataset, batch_size=6, num_workers=workers, multiprocessing_context=start, **options
    )


def expected(first, n, kind=torch.float32):
    return torch.stack([picture(number, kind) for number in range(first, first + n)])


def in_a_slot(tensor):
    """Whether it lies in memory without a name, and not in one of torch's."""
    address = tensor.untyped_storage().data_ptr()
    with open("/proc/self/maps", encoding="utf-8") as maps:
        for line in maps:
            start, end = (int(word, 16) for word in line.split()[0].split("-"))
            if start <= address < end:
                return "memfd:lerobot_ext" in line
    return False


@pytest.mark.parametrize(("workers", "start"), STARTS)
def test_batches_equal_torchs(ours, workers, start):
    dataset = NumberedItems(40, KINDS)
    stock = torch.utils.data.default_collate([dataset[number] for number in range(6)])
    slots = 0
    for number, batch in enumerate(load(dataset, workers, start)):
        n = min(6, 40 - 6 * number)
        assert batch["number"].tolist() == list(range(6 * number, 6 * number + n))
        assert torch.equal(batch["small"][:, 0], batch["number"])
        for kind in KINDS:
            got = batch[str(kind)]
            assert torch.equal(got, expected(6 * number, n, kind))
            assert (type(got), got.dtype, got.is_contiguous()) == (torch.Tensor, kind, True)
            assert got.stride() == stock[str(kind)].stride()
            slots += in_a_slot(got)
    assert bool(slots) == bool(workers)


@pytest.mark.parametrize(("workers", "start"), STARTS)
def test_memory_of_a_batch_that_is_gone_is_used_again(ours, workers, start):
    places = [batch[FLOAT].data_ptr() for batch in load(NumberedItems(180), workers, start)]
    # In turn each worker has two batches under way, and the training one; the first two go as stock's.
    assert len(set(places[len(places) // 2 :])) <= (workers * 4 if workers else 2)


@pytest.mark.parametrize(("workers", "start"), STARTS)
def test_batches_that_are_kept_stay_as_they_are(ours, monkeypatch, workers, start):
    monkeypatch.setenv(batches.KEEP, "2")  # then there is no room: torch's memory is taken
    kept = list(load(NumberedItems(96), workers, start))
    for number, batch in enumerate(kept):
        assert torch.equal(batch[FLOAT], expected(6 * number, 6))


@pytest.mark.parametrize(("workers", "start"), [(0, None), (1, "fork")])
def test_a_view_keeps_its_memory_from_reuse(ours, workers, start):
    views = []
    for number, batch in enumerate(load(NumberedItems(90), workers, start)):
        if number % 4 == 0:
            views.append((number, batch[FLOAT][2:, 1].numpy()[:, ::2]))
    for number, view in views:
        assert (view == expected(6 * number, 6)[2:, 1].numpy()[:, ::2]).all()


def test_what_the_training_writes_is_seen_by_no_later_batch(ours):
    for number, batch in enumerate(load(NumberedItems(90))):
        assert torch.equal(batch[FLOAT], expected(6 * number, 6))
        batch[FLOAT].fill_(-1)


def test_a_forked_process_keeps_the_batch_that_its_parent_lets_go(ours):
    loader = iter(load(NumberedItems(120)))
    for _ in range(6):
        batch = next(loader)
    assert in_a_slot(batch[FLOAT])
    seen, wanted = batch[FLOAT].numpy(), expected(30, 6).numpy()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os.close(writing)
        os.read(reading, 1)  # the parent has gone on by now
        os._exit(0 if (seen == wanted).all() else 1)  # torch's threads do not exist here
    del seen
    del batch
    for number, batch in enumerate(loader, start=6):
        assert torch.equal(batch[FLOAT], expected(6 * number, 6))
    os.write(writing, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    for end in (reading, writing):
        os.close(end)


def test_memory_goes_with_the_workers(ours):
    loader = iter(load(NumberedItems(60), workers=2))
    batch = [next(loader) for _ in range(6)][-1]
    assert len(batch_slots._senders) == 2
    del loader
    gc.collect()
    assert not batch_slots._senders
    assert torch.equal(batch[FLOAT], expected(30, 6)), "what somebody holds stays"


def test_persistent_workers_go_on_with_their_slots(ours):
    loader = load(NumberedItems(60), persistent_workers=True)
    places = []
    for _ in range(3):
        for number, batch in enumerate(loader):
            assert torch.equal(batch[FLOAT], expected(6 * number, 6))
            places.append(batch[FLOAT].data_ptr())
    assert len(set(places[10:])) <= 5


def test_an_epoch_that_is_left_early_harms_nobody(ours):
    loader = load(NumberedItems(60), workers=2, persistent_workers=True)
    for stop in (1, 4, 10):
        for number, batch in enumerate(loader):
            assert torch.equal(batch[FLOAT], expected(6 * number, 6))
            if number == stop:
                break


def go_on(iterator):
    for batch in iterator:
        del batch


def test_a_worker_that_is_killed_is_told_and_the_next_loader_works(ours):
    loader = load(NumberedItems(600))
    iterator = iter(loader)
    kept = [next(iterator) for _ in range(4)]
    # Torch's own handler raises in whatever runs when the signal comes; without it, the loop is told.
    handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.kill(iterator._workers[0].pid, signal.SIGKILL)
    # As in stock: of a small tensor that was under way another error tells, by luck.
    with pytest.raises((RuntimeError, OSError, EOFError)):
        go_on(iterator)
    del iterator
    signal.signal(signal.SIGCHLD, handler)
    for number, batch in enumerate(kept):
        assert torch.equal(batch[FLOAT], expected(6 * number, 6))
    assert torch.equal(next(iter(loader))[FLOAT], expected(0, 6))


def test_a_collation_that_fails_is_told_as_stock_tells_it(ours):
    with pytest.raises(ValueError, match="five is not liked"):
        list(load(NumberedItems(40), collate_fn=failing_at_five))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_a_tensor_sent_twice_and_a_view_arrive_as_they_are(ours, start):
    for number, batch in enumerate(load(NumberedItems(60), 1, start, collate_fn=with_a_view)):
        whole = expected(6 * number, 6)
        assert torch.equal(batch["one"], whole)
        assert torch.equal(batch["same"], whole)
        assert torch.equal(batch["view"], whole[1:, ::2, 5:])
        assert torch.equal(batch["other"], whole + 1)


def test_workers_that_cannot_be_seen_send_as_stock_does(ours, monkeypatch):
    def unseen(*_):
        raise PermissionError("not yours")

    monkeypatch.setattr(batch_slots, "_open", unseen)
    for number, batch in enumerate(load(NumberedItems(40))):
        assert torch.equal(batch[FLOAT], expected(6 * number, min(6, 40 - 6 * number)))
        assert not in_a_slot(batch[FLOAT])


def test_a_slot_of_a_worker_that_is_gone_is_told():
    place = batch_slots._Place(1, 1, 999_999, MIB)
    board = batch_slots._Board("none", os.getpid(), 999_998)
    with pytest.raises(RuntimeError, match="LEROBOT_EXT_BATCHES=off"):
        batch_slots._receive(board, place, (torch.uint8, (1,), (1,), 0))


@pytest.mark.parametrize(
    "items",
    [
        [torch.zeros(WIDE, requires_grad=True)] * 6,
        [torch.zeros(8, *WIDE).contiguous(memory_format=torch.channels_last)] * 6,
        [torch.zeros(WIDE).transpose(0, 2)] * 6,
        [torch.zeros(WIDE, dtype=torch.complex64)] * 6,
        [torch.zeros(WIDE), torch.zeros(WIDE, dtype=torch.float64)] * 3,
    ],
)
def test_other_tensors_are_collated_by_torch(ours, items):
    stock = collate_tensor_fn(items)
    got = torch.utils.data.default_collate(items)
    assert (got.dtype, got.stride(), got.requires_grad) == (stock.dtype, stock.stride(), stock.requires_grad)
    assert torch.equal(got, stock)


def test_items_that_make_no_batch_fail_as_in_torch(ours):
    for items in ([torch.zeros(WIDE), torch.zeros(3, 9, 96)], [torch.zeros(WIDE).to_sparse()] * 2):
        with pytest.raises(RuntimeError) as stock:
            collate_tensor_fn(items)
        with pytest.raises(RuntimeError) as got:
            torch.utils.data.default_collate(items)
        assert str(got.value) == str(stock.value)


# --- slots alone: both sides in one process ---

_steps = st.lists(
    st.tuples(st.sampled_from(("make", "send", "drop", "let go", "fork")), st.integers(0, 7)), max_size=60
)


@settings(max_examples=60, deadline=None)
@given(_steps)
def test_whatever_comes_no_tensor_that_is_held_changes(steps):
    slots = Slots(5 * ITEM)
    sender = batch_slots._Sender(slots._board)
    batch_slots._senders[slots._board.token] = sender
    made, got, value = [], [], 0

    def check():
        assert slots.n_bytes() <= slots.limit
        for number, tensor in (*made, *got):
            assert (tensor == number).all()

    for what, which in steps:
        if what == "make":
            memory = slots.empty(ITEM // 4 * (1 + which % 4))
            if memory is not None:
                value += 1
                memory[:] = value
                made.append((value, torch.from_numpy(memory)))
        elif what == "send" and made:
            number, tensor = made[which % len(made)]
            sent = slots.send(tensor)
            if sent is not None:
                function, words = sent
                got.append((number, function(*words)))
        elif what == "drop" and made:
            del made[which % len(made)]
        elif what == "let go" and got:
            del got[which % len(got)]
        elif what == "fork":
            batch_slots._before_fork()
        tensor = memory = sent = words = None  # nothing else holds one
        check()
    batch_slots._senders.pop(slots._board.token)


def test_slots_keep_to_their_limit_and_small_ones_make_room():
    slots = Slots(4 * MIB)
    small = [slots.empty(MIB) for _ in range(4)]
    assert slots.empty(MIB) is None
    small.clear()
    assert slots.empty(3 * MIB) is not None
    assert slots.n_bytes() <= 4 * MIB
    assert slots.empty(5 * MIB) is None


# --- switches, and LeRobot's own datasets ---


def test_it_can_be_switched_off(monkeypatch):
    monkeypatch.setenv(batches.SWITCH, "off")
    assert not batches.install()
    assert default_collate_fn_map[torch.Tensor] is collate_tensor_fn


@pytest.mark.parametrize(("name", "value"), [(batches.SWITCH, "perhaps"), (batches.KEEP, "-3")])
def test_a_variable_that_cannot_be_read_is_named(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=rf"{name}.*'{value}'"):
        batches.install()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("batches") / "ten")


@pytest.mark.parametrize(("workers", "start"), [(0, None), (1, "fork"), (1, "spawn")])
def test_a_lerobot_dataset_gives_stocks_batches(root, workers, start):
    def opened(workers=0, start=None):
        dataset = LeRobotDataset("user/ten", root=root, video_backend="pyav")
        return torch.utils.data.DataLoader(
            dataset,
            sampler=[*range(len(dataset))] * 2,
            batch_size=8,
            num_workers=workers,
            multiprocessing_context=start,
        )

    stock = list(opened())
    hook.install_where_datasets_are_read()
    try:
        slots = 0
        for theirs, mine in zip(stock, opened(workers, start), strict=True):
            assert theirs.keys() == mine.keys()
            for key, value in theirs.items():
                if isinstance(value, torch.Tensor):
                    assert torch.equal(value, mine[key])
                    assert value.stride() == mine[key].stride()
                else:
                    assert value == mine[key]
            slots += in_a_slot(mine["observation.images.top"])
        assert bool(slots) == bool(workers)
    finally:
        ram_reader.uninstall()
        batches.uninstall()
