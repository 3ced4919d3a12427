"""A TMQ consumer in a process of its own, as its calls can hang: makes the topic, subscribes, sends what is pushed."""

import contextlib
import os
import secrets
import signal
import time

from . import child
from . import columns as col
from .tdengine import TRANSPORT, Error

POLL_S = 0.2  # short: taosws holds the interpreter lock meanwhile, and TDengine now and then misses a wake-up
SILENT_S = 5  # without an answer to a poll: the consumer is dead, or as good as that
CALL_LIMIT_S = 8  # a single call into taosws that takes longer has hung
TOPIC_S = 5  # tries to drop a topic that is still in use
RETRY_S, RARELY_S = 0.5, 30  # between tries; where they are refused each waits twice as long, up to the second
TOO_MANY = "SHOW TOPICS lists all, of other applications, too: DROP TOPIC those not needed, or raise tmqMaxTopicNum"


def take_arguments(pipe, taken):
    with contextlib.suppress(EOFError):  # the server has ended
        run_subscriber(pipe, *taken.recv())


def run_subscriber(pipe, dsn, topic, select, columns, anew):
    """The subscriber's process: sends ("subscribed",), ("rows", Arrow bytes), ("quiet",) or ("failed", why).

    It ends when the server is gone, or by SIGALRM when a call hangs, whoever holds the interpreter lock.
    """
    child.prepare()
    import taosws  # here, so that only the child loads it

    pause_s = RETRY_S

    def send(*message):
        signal.alarm(0)  # bound: the server, which reads it or ends us
        pipe.send(message)
        signal.alarm(CALL_LIMIT_S)

    with contextlib.suppress(BrokenPipeError):
        while True:
            began = time.monotonic()
            try:
                send("quiet")
                make_topic(taosws.connect(dsn), topic, select, anew, lambda: send("quiet"))
                consume(taosws, dsn, topic, columns, send)
            except BrokenPipeError:
                raise
            except BaseException as error:  # taosws' PanicException is no Exception
                anew = isinstance(error, OtherColumns)
                reason, passes = reason_of(error)
                worked = time.monotonic() - began > RARELY_S
                pause_s = RETRY_S if passes or worked else min(2 * pause_s, RARELY_S)
            send("failed", reason)
            rest(pause_s, send)


def rest(seconds, send):
    """Waits; meanwhile the server hears that this process is alive."""
    end = time.monotonic() + seconds
    while (left_s := end - time.monotonic()) > 0:
        send("quiet")
        signal.alarm(0)
        time.sleep(min(left_s, CALL_LIMIT_S / 2))


def reason_of(error):
    """(why there is no subscription, in words; whether that may pass within a moment)."""
    if isinstance(error, (OtherColumns, TimeoutError)):
        return str(error), True
    found = Error(str(error) or type(error).__name__)
    if found.code.startswith(TRANSPORT):
        return f"TDengine does not answer: {found}", True
    if not found.code:  # the client's own
        return f"taosws failed: {found}", False
    return f"TDengine answered: {found}" + (f"; {TOO_MANY}" if found.code == "0x4004" else ""), False


class OtherColumns(Exception):
    """The topic is of another SELECT: an older one, or not ours."""


def make_topic(connection, topic, select, anew, alive):
    """Makes the topic when it is missing; anew: drops it first, unless another consumer uses it for TOPIC_S longer."""
    give_up_at = time.monotonic() + TOPIC_S
    while anew and time.monotonic() < give_up_at:
        try:
            connection.execute(f"DROP TOPIC IF EXISTS {topic}")
            break
        except Exception:  # for two seconds after a consumer has gone, too
            alive()
            time.sleep(0.2)
    connection.execute(f"CREATE TOPIC IF NOT EXISTS {topic} AS {select}")


def consume(taosws, dsn, topic, columns, send):
    """Subscribes, in a group of its own and from now on, and sends the rows until something fails."""
    group = f"group.id=perspective_{os.getpid()}_{secrets.token_hex(8)}"
    consumer = taosws.Consumer(dsn=f"{dsn}&{group}&auto.offset.reset=latest&enable.auto.commit=false")
    consumer.subscribe([topic.strip("`")])
    message = consumer.poll(POLL_S)  # "latest" is the time of the first poll
    send("subscribed")
    sent_at = answered_at = time.monotonic()
    names = [each.name for each in columns]
    while True:
        if message is not None:
            rows = []
            for block in message:
                if [field.name() for field in block.fields()] != names:
                    raise OtherColumns(f"topic {topic} does not have the columns of the table")
                rows += block.fetchall()
            send("rows", col.to_ipc(col.to_arrow(rows, columns)))
            consumer.commit(message)  # one that reconnects goes on from here; without a commit it would lose rows
            sent_at = answered_at = time.monotonic()
        elif time.monotonic() - sent_at > 1:
            send("quiet")
            sent_at = time.monotonic()
        signal.alarm(CALL_LIMIT_S)
        started = time.monotonic()
        message = consumer.poll(POLL_S)
        # None after half the time says that there are no rows; after all of it, that nobody has answered
        if time.monotonic() - started < 0.95 * POLL_S:
            answered_at = time.monotonic()
        elif message is None and time.monotonic() - answered_at > SILENT_S:
            raise TimeoutError(f"no answer for {SILENT_S} s")
