"""Frames, however the socket cuts them."""

from __future__ import annotations

import random

import pytest

from volvox.worker.wire import Frames, frame


@pytest.mark.parametrize("piece", [1, 2, 7, 8, 9, 100, 1 << 20])
def test_frames_come_out_as_they_went_in(piece: int) -> None:
    sent = [({"id": number, "text": "é" * number}, bytes(range(256)) * (number % 3)) for number in range(20)]
    data = b"".join(frame(header, body) for header, body in sent)
    frames = Frames()
    found = [told for at in range(0, len(data), piece) for told in frames.feed(data[at : at + piece])]
    assert found == sent


def test_a_large_frame_in_random_pieces(seed: int = 7) -> None:
    chance = random.Random(seed)
    sent = [({"id": 1}, chance.randbytes(3 << 20)), ({"id": 2}, b""), ({"id": 3}, chance.randbytes(1000))]
    data = b"".join(frame(header, body) for header, body in sent)
    frames, found, at = Frames(), [], 0
    while at < len(data):
        step = chance.randint(1, 300_000)
        found += frames.feed(data[at : at + step])
        at += step
    assert found == sent
