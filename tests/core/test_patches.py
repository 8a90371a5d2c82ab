# SPDX-License-Identifier: Apache-2.0
"""A change to LeRobot goes in whole or not at all, and can be taken back."""

import inspect
import logging
from types import ModuleType

import lerobot
import pytest

from lerobot_ext.patches import Patch, replaced


@pytest.fixture
def module():
    made = ModuleType("toy")

    def greet(name: str) -> str:
        """Say hello."""
        return f"hello {name}"

    made.greet = greet
    made.limit = 3
    return made


@pytest.fixture
def patch():
    made = Patch("toy part", "no toys")
    yield made
    made.uninstall()


def test_ours_stands_in_for_stock_and_reaches_it(module, patch):
    stock = module.greet
    assert patch.install({(module, "greet"): lambda name: patch.stock("greet")(name).upper()})
    assert module.greet("ada") == "HELLO ADA"
    assert module.greet.__doc__ == "Say hello."
    patch.uninstall()
    assert module.greet is stock
    assert not patch.installed


def test_installing_twice_changes_nothing(module, patch):
    patch.install({(module, "limit"): 4})
    assert patch.install({(module, "limit"): 5})
    assert module.limit == 4
    patch.uninstall()
    assert module.limit == 3


def test_what_somebody_else_put_in_our_place_stays(module, patch, monkeypatch):
    """A test's function must not come back with the patch that found it there, nor go with it."""
    stock = module.greet
    patch.install({(module, "greet"): lambda name: patch.stock("greet")(name).upper(), (module, "limit"): 4})
    ours = module.greet
    theirs = lambda name: ours(name) + "!"  # noqa: E731
    monkeypatch.setattr(module, "greet", theirs)
    monkeypatch.setattr(module, "limit", 9)
    assert module.greet("ada") == "HELLO ADA!"
    patch.uninstall()
    assert (module.greet, module.limit) == (theirs, 9)
    assert module.greet("ada") == "hello ada!"
    monkeypatch.undo()  # which puts ours back: it does what stock does, and may be patched anew
    assert module.greet("ada") == "hello ada"
    patch.install({(module, "greet"): lambda name: patch.stock("greet")(name) + "?"})
    assert module.greet("ada") == "hello ada?"
    patch.uninstall()
    assert module.greet("ada") == stock("ada")


def test_the_function_of_a_test_does_not_outlive_it(module, patch, monkeypatch):
    stock = module.greet
    with monkeypatch.context() as test:
        test.setattr(module, "greet", lambda name: "of a test")
        patch.install({(module, "greet"): lambda name: patch.stock("greet")(name)})
    assert module.greet is stock
    patch.uninstall()
    assert module.greet is stock


def test_a_missing_attribute_leaves_everything_as_it_was(module, patch, caplog):
    stock = module.greet
    with caplog.at_level(logging.WARNING):
        assert not patch.install({(module, "greet"): print, (module, "gone"): 1})
    assert module.greet is stock
    assert "LeRobot has no toy.gone" in caplog.text
    assert "no toys" in caplog.text


def test_another_lerobot_is_left_alone(module, patch, monkeypatch, caplog):
    monkeypatch.setattr(lerobot, "__version__", "0.7.0")
    with caplog.at_level(logging.WARNING):
        assert not patch.install({(module, "limit"): 4})
    assert module.limit == 3
    assert "toy part" in caplog.text


def test_static_and_class_methods_come_back_as_they_were(patch):
    class Toy:
        @staticmethod
        def still() -> int:
            return 1

        @classmethod
        def named(cls) -> str:
            return cls.__name__

    assert patch.install(
        {(Toy, "still"): staticmethod(lambda: 2), (Toy, "named"): classmethod(lambda cls: "x")}
    )
    assert (Toy().still(), Toy.named()) == (2, "x")
    patch.uninstall()
    assert (Toy().still(), Toy.named()) == (1, "Toy")


def test_two_owners_of_one_name_are_told_apart(module, patch):
    other = ModuleType("other")
    other.limit = 7
    patch.install({(module, "limit"): 0, (other, "limit"): 0})
    assert (patch.stock("limit", module), patch.stock("limit", other)) == (3, 7)
    with pytest.raises(KeyError, match="not replaced"):
        patch.stock("else")


def test_for_a_while_ours_stands_in_with_stocks_signature(module):
    class Ours:
        def greet(self, *words: str) -> str:
            return "ours"

    def look() -> None:
        with replaced(module, greet=Ours().greet, limit=9) as before:
            assert (module.greet("ada"), module.limit) == ("ours", 9)
            assert list(inspect.signature(module.greet).parameters) == ["name"]
            assert before == {"greet": stock, "limit": 3}
            raise InterruptedError

    stock = module.greet
    with pytest.raises(InterruptedError):
        look()
    assert (module.greet, module.limit) == (stock, 3)
