"""Which process of this machine holds a model."""

import os
from pathlib import Path

from assistant.providers.shared_llama import Address, Claim

HERE = Address("http://127.0.0.1:9", "key", os.getpid())


def test_only_one_has_the_claim(tmp_path: Path) -> None:
    first, second = Claim(tmp_path, Path("m.gguf")), Claim(tmp_path, Path("m.gguf"))
    assert first.take()
    assert not second.take()
    first.release()
    assert second.take()
    second.release()


def test_each_file_of_weights_has_a_claim_of_its_own(tmp_path: Path) -> None:
    first, second = Claim(tmp_path, Path("a.gguf")), Claim(tmp_path, Path("b.gguf"))
    assert first.take()
    assert second.take()
    first.release()
    second.release()


def test_what_the_holder_publishes_the_others_read(tmp_path: Path) -> None:
    first, second = Claim(tmp_path, Path("m.gguf")), Claim(tmp_path, Path("m.gguf"))
    first.take()
    assert second.read() is None
    first.publish(HERE)
    assert second.read() == HERE
    first.release()
    assert second.read() is None


def test_only_this_user_reads_the_address(tmp_path: Path) -> None:
    claim = Claim(tmp_path, Path("m.gguf"))
    claim.take()
    claim.publish(HERE)
    (file,) = tmp_path.glob("*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    claim.release()


def test_the_address_of_a_holder_that_died_is_not_read(tmp_path: Path) -> None:
    dead, next_one = Claim(tmp_path, Path("m.gguf")), Claim(tmp_path, Path("m.gguf"))
    dead.take()
    dead.publish(HERE)
    dead.detach()
    assert next_one.take()
    assert next_one.read() is None
    next_one.release()


def test_a_broken_file_is_no_address(tmp_path: Path) -> None:
    claim = Claim(tmp_path, Path("m.gguf"))
    claim.take()
    claim.publish(HERE)
    (file,) = tmp_path.glob("*.json")
    for broken in ("", "[]", "{}", '{"url": 5}'):
        file.write_text(broken)
        assert claim.read() is None
    claim.release()


def test_where_nobody_listens_nobody_answers() -> None:
    assert not HERE.is_healthy
