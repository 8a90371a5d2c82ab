# SPDX-License-Identifier: Apache-2.0
"""A worker's batch of pooled pictures travels without its pixels, and only where nobody has touched them."""

import pickle

import pytest
import torch
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from pool_dataset import CAMERAS, write_dataset

from lerobot_ext.data import hook, ram_reader
from lerobot_ext.data.pool import handover, opening, sampler
from lerobot_ext.data.pool.budget import POOL
from lerobot_ext.data.pool.handover import PooledFrames

TOP = CAMERAS[0]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("pool") / "ten")


@pytest.fixture
def pooled(root, monkeypatch):
    monkeypatch.setattr(opening, "_held", [])
    monkeypatch.setenv(POOL, "8GiB")
    hook.install_where_datasets_are_read()
    dataset = LeRobotDataset("user/ten", root=root, video_backend="pyav", return_uint8=True)
    dataset.reader._pool.fill()
    yield dataset
    ram_reader.uninstall()
    sampler.uninstall()


class Wrapped(torch.utils.data.Dataset):
    """A dataset that does something to its pictures, in the worker."""

    def __init__(self, dataset, change):
        self.dataset, self.change = dataset, change

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        item = self.dataset[index]
        assert type(item[TOP]) is PooledFrames
        return {TOP: self.change(item[TOP]), "index": item["index"]}


def brighten(picture):
    picture += 1
    return picture


def zero_by_numpy(picture):
    picture.numpy()[:] = 0
    return picture


def first_row(picture):
    return picture[:, :1]


def loaded(dataset, **options):
    """All batches of one forked worker."""
    options = {"batch_size": 8, "num_workers": 1, "multiprocessing_context": "fork", **options}
    return list(torch.utils.data.DataLoader(dataset, **options))


def sent(monkeypatch):
    """Counts the batches whose pixels are copied by the process that receives them."""
    taken = []
    plain = handover._take
    monkeypatch.setattr(handover, "_take", plain)
    gather = handover.EpisodePool.gather
    monkeypatch.setattr(
        handover.EpisodePool, "gather", lambda self, *words: taken.append(1) or gather(self, *words)
    )
    return taken


def test_untouched_pictures_are_taken_from_the_pool_as_plain_tensors(pooled, monkeypatch):
    taken = sent(monkeypatch)
    batches = loaded(pooled)
    assert len(taken) == 2 * len(batches)  # two cameras
    for number, batch in enumerate(batches):
        assert type(batch[TOP]) is torch.Tensor
        for place in range(len(batch[TOP])):
            assert torch.equal(batch[TOP][place], pooled[8 * number + place][TOP])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (brighten, lambda picture: picture + 1),
        (zero_by_numpy, torch.zeros_like),
        (first_row, lambda picture: picture[:, :1]),
        (torch.clone, torch.clone),
    ],
)
def test_what_a_worker_changed_arrives_changed(pooled, monkeypatch, change, expected):
    taken = sent(monkeypatch)
    [*_, batch] = loaded(Wrapped(pooled, change))
    for place, index in enumerate(batch["index"].tolist()):
        assert torch.equal(batch[TOP][place], expected(pooled[index][TOP]))
    assert not taken


def test_reading_a_shape_changes_nothing(pooled, monkeypatch):
    taken = sent(monkeypatch)
    loaded(Wrapped(pooled, lambda picture: picture if picture.shape[0] == 3 and picture.dim() == 3 else None))
    assert taken


def test_windows_keep_their_axis(root, pooled, monkeypatch):
    taken = sent(monkeypatch)
    dataset = LeRobotDataset(
        "user/ten",
        root=root,
        video_backend="pyav",
        return_uint8=True,
        delta_timestamps={TOP: [-0.1, 0.0]},
    )
    [batch, *_] = loaded(dataset)
    assert batch[TOP].shape == (8, 2, 3, 48, 64)
    assert batch[CAMERAS[1]].shape == (8, 3, 48, 64)
    assert torch.equal(batch[TOP][3], dataset[3][TOP])
    assert taken


def test_a_collation_of_ones_own_sees_tensors(pooled, monkeypatch):
    def as_float(samples):
        batch = torch.utils.data.default_collate(samples)
        return {TOP: batch[TOP].float() / 255, "sum": batch[TOP].sum()}

    [batch, *_] = loaded(pooled, collate_fn=as_float)
    expected = torch.stack([pooled[index][TOP] for index in range(8)])
    assert torch.equal(batch[TOP], expected.float() / 255)
    assert batch["sum"] == expected.sum()


def test_an_item_that_a_worker_keeps_is_kept_with_its_pixels(pooled):
    def pickled(samples):
        return [pickle.dumps(sample[TOP].clone()) for sample in samples]

    [first, *_] = loaded(pooled, collate_fn=pickled)
    assert torch.equal(pickle.loads(first[2]), pooled[2][TOP])


def test_a_process_without_the_pool_is_told(pooled):
    with pytest.raises(RuntimeError, match="has not opened their dataset"):
        handover._take("unknown", 0, ((0, (0,)),), (1, 3, 48, 64))


def test_without_workers_pictures_are_plain(pooled):
    assert type(pooled[0][TOP]) is torch.Tensor
