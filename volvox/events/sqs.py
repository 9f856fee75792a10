"""A queue of Amazon SQS, or of what speaks as it does: events of buckets, through SNS and EventBridge, too."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from volvox.errors import InvalidInput, NotFound, Unavailable, VolvoxError
from volvox.events.aside import Aside
from volvox.events.parsing import ANYBODY, parse
from volvox.events.senders import Sender
from volvox.events.sources import Record
from volvox.inbox import Arrival

T = TypeVar("T")
log = logging.getLogger(__name__)

_MOST = 10  # that SQS gives at once
_WAIT_SECONDS = 20  # that it waits at most for one to come
_HIDDEN_SECONDS = 60  # for which nobody else gets a message that was given to us
_PAUSE_SECONDS = (1.0, 30.0)
_MOST_RECEIVES = 20


class SqsQueue:
    """One queue.

    A message is deleted when its arrivals are kept, so one that was taken by a process that was killed comes again. One
    that nobody can read is put aside. While the inbox does not answer, messages stay hidden from other readers.
    """

    def __init__(
        self,
        url: str,
        aside: Aside,
        *,
        sender: Sender = ANYBODY,
        client: Callable[[], Any] | None = None,
        wait_seconds: int = _WAIT_SECONDS,
    ) -> None:
        """Read a queue; nothing is asked yet.

        Args:
            url: The queue's URL.
            aside: Where messages go that nobody can read.
            sender: How far its messages are believed, and what they may speak of; who may send is the queue's policy.
            client: Makes a boto3 client of SQS; none: by the environment's credentials and region.
            wait_seconds: How long the queue is asked to wait for a message, at most 20.
        """
        self.url, self._aside, self._sender, self._wait = url, aside, sender, wait_seconds
        self._make, self._kept = client or _client, None
        self._ended = threading.Event()

    async def run(self, record: Record) -> None:
        """Tell of arrivals until it is cancelled.

        Raises:
            NotFound: If there is no such queue.
            InvalidInput: If it may not be read.
        """
        self._ended.clear()
        pause = _PAUSE_SECONDS[0]
        try:
            while True:
                try:
                    messages = await _in_thread(self._received)
                    if messages:
                        await self._handled(messages, record)
                    pause = _PAUSE_SECONDS[0]
                except Unavailable as error:
                    log.warning("the queue %s is asked again in %.0f s: %s", self.url, pause, error)
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _PAUSE_SECONDS[1])
        finally:
            self._ended.set()

    # -- inside --------------------------------------------------------------------------------------------------

    async def _handled(self, messages: list[dict[str, Any]], record: Record) -> None:
        holding = asyncio.create_task(self._hold(messages))
        try:
            read = [(message, await self._read(message)) for message in messages]
            arrivals = [arrival for _, some in read for arrival in some]
            try:
                if arrivals:
                    await record(arrivals)
            except Unavailable:
                await _in_thread(lambda: self._hide(messages, _PAUSE_SECONDS[0]))
                raise
            except VolvoxError as error:  # one of them; each is told alone
                log.info("messages of %s are told one by one: %s", self.url, error)
                for message, some in read:
                    await self._alone(message, some, record)
        finally:
            holding.cancel()
        await _in_thread(lambda: self._delete(messages))

    async def _alone(self, message: dict[str, Any], arrivals: tuple[Arrival, ...], record: Record) -> None:
        try:
            if arrivals:
                await record(arrivals)
        except Unavailable:
            raise
        except VolvoxError as error:
            await asyncio.to_thread(self._aside.put, self.url, message["Body"], str(error))

    async def _read(self, message: dict[str, Any]) -> tuple[Arrival, ...]:
        try:
            if (received := int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))) > _MOST_RECEIVES:
                log.warning(
                    "a message of %s was received %d times; something ends those that read it", self.url, received
                )
            return parse(message["Body"], self._sender, "sqs").arrivals
        except InvalidInput as error:
            await asyncio.to_thread(self._aside.put, self.url, message["Body"], str(error))
            return ()

    async def _hold(self, messages: list[dict[str, Any]]) -> None:
        while True:
            await asyncio.sleep(_HIDDEN_SECONDS / 3)
            with contextlib.suppress(VolvoxError):
                await _in_thread(lambda: self._hide(messages, _HIDDEN_SECONDS))

    def _received(self) -> list[dict[str, Any]]:
        found = self._asked(
            "receive_message",
            MaxNumberOfMessages=_MOST,
            WaitTimeSeconds=self._wait,
            VisibilityTimeout=_HIDDEN_SECONDS,
            AttributeNames=["ApproximateReceiveCount"],
        ).get("Messages", [])
        if self._ended.is_set() and found:  # nobody waits for them any more: others shall have them at once
            self._hide(found, 0)
        return found

    def _hide(self, messages: list[dict[str, Any]], seconds: float) -> None:
        entries = [
            {"Id": str(number), "ReceiptHandle": one["ReceiptHandle"], "VisibilityTimeout": int(seconds)}
            for number, one in enumerate(messages)
        ]
        self._asked("change_message_visibility_batch", Entries=entries)

    def _delete(self, messages: list[dict[str, Any]]) -> None:
        entries = [{"Id": str(number), "ReceiptHandle": one["ReceiptHandle"]} for number, one in enumerate(messages)]
        failed = self._asked("delete_message_batch", Entries=entries).get("Failed", [])
        if failed:
            log.info("%d messages of %s were not deleted, and come again", len(failed), self.url)

    def _asked(self, call: str, **asked: Any) -> dict[str, Any]:
        try:
            from botocore.exceptions import BotoCoreError, ClientError
        except ImportError as error:
            raise InvalidInput("SQS is asked with boto3, which is not installed; `pip install boto3`") from error

        if self._kept is None:
            self._kept = self._make()
        # Errors are raised outside of the handler, so that the library's own, which quote requests, do not hang on.
        try:
            return getattr(self._kept, call)(QueueUrl=self.url, **asked)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", "")).rpartition(".")[2]
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
        except (BotoCoreError, ValueError) as error:
            code, status = type(error).__name__, 500
        if "NonExistentQueue" in code or "QueueDoesNotExist" in code:
            raise NotFound(f"there is no queue {self.url}; make it, or correct the address")
        if code in ("NoCredentialsError", "PartialCredentialsError") or "AccessDenied" in code or status in (401, 403):
            raise InvalidInput(
                f"the queue {self.url} may not be read ({code}); the credentials must allow sqs:ReceiveMessage, "
                "sqs:DeleteMessage and sqs:ChangeMessageVisibility"
            )
        raise Unavailable(f"the queue {self.url} does not answer ({code})")


async def _in_thread(call: Callable[[], T]) -> T:
    """What `call` returns; who is cancelled meanwhile leaves it behind, and the process ends without waiting for it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result, failed = call(), None
        except BaseException as error:
            result, failed = None, error

        def tell() -> None:
            if not done.done():
                done.set_exception(failed) if failed else done.set_result(result)  # pyright: ignore[reportArgumentType]

        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(tell)

    threading.Thread(target=run, name="sqs", daemon=True).start()
    return await done


def _client() -> Any:
    import boto3
    from botocore.config import Config

    config = Config(connect_timeout=5, read_timeout=_WAIT_SECONDS + 10, retries={"mode": "standard", "max_attempts": 3})
    return boto3.client("sqs", config=config)
