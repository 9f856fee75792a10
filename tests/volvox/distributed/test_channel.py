import asyncio

import pytest

from volvox.distributed import channel as channels
from volvox.distributed.channel import Refused


def run(client, token: str = "secret", messages: int = 1):
    """Serve one connection; what the server got and what `client(port)` returned or raised."""

    async def both():
        served: asyncio.Future = asyncio.get_running_loop().create_future()

        async def serve(reader, writer):
            try:
                channel, told = await channels.accept(reader, writer, token)
                channel.send({"hello": told["node"]})
                served.set_result([told, *[await channel.receive() for _ in range(messages)]])
            except (Refused, ConnectionError) as error:
                served.set_result(error)
            finally:
                await channels.close(writer)

        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            answer = await asyncio.gather(client(server.sockets[0].getsockname()[1]), return_exceptions=True)
            return await asyncio.wait_for(served, 10), answer[0]

    return asyncio.run(both())


def test_who_knows_the_token_is_heard_and_hears() -> None:
    async def client(port):
        channel = await channels.connect("127.0.0.1", port, "secret", {"node": 1})
        channel.send({"done": True})
        said = await channel.receive()
        await channel.close()
        return said

    assert run(client) == ([{"node": 1}, {"done": True}], {"hello": 1})


def test_another_token_is_refused_on_both_sides() -> None:
    async def client(port):
        return await channels.connect("127.0.0.1", port, "guess", {"node": 1})

    served, answer = run(client)
    assert isinstance(served, Refused)
    assert isinstance(answer, Refused)


def test_the_token_itself_is_never_sent() -> None:
    seen = bytearray()

    async def client(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        seen.extend(await reader.readline())
        writer.write(b"x y {}\n")
        seen.extend(await reader.read())

    run(client)
    assert seen
    assert b"secret" not in seen


@pytest.mark.parametrize("change", [lambda line: line.replace(b"rank", b"tank"), lambda line: line + line])
def test_a_message_that_was_changed_or_repeated_is_not_believed(change) -> None:
    async def client(port):
        channel = await channels.connect("127.0.0.1", port, "secret", {"node": 1})
        write = channel._writer.write
        channel._writer.write = lambda line: write(change(line))
        channel.send({"rank": 1})
        await channel.receive()
        await channel.close()

    served, _ = run(client, messages=2)
    assert isinstance(served, Refused)
