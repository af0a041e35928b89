# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rtnetlink socket: many messages in one send, errors by message, dumps that are complete.

What the messages say is in ``encode`` and ``decode``. Numbers are those of
include/uapi/linux/netlink.h and rtnetlink.h; RFC 3549 describes the protocol.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
import time
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, TypeVar

from ..core.errors import AnswersLost, NetlinkError

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
RTM_NEWNSID, RTM_GETNSID = 88, 90
RTM_NEWLINKPROP, RTM_DELLINKPROP = 108, 109

NLM_F_REQUEST, NLM_F_ACK = 0x1, 0x4
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
NLM_F_DUMP = 0x300
#: In answers: more of the same follows, the dump is not of one instant, and the two forms of an
#: error.
_NLM_F_DUMP_INTR, _NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x10, 0x100, 0x200

_NLMSG_NOOP, _NLMSG_ERROR, _NLMSG_DONE = 1, 2, 3
_NLMSGERR_ATTR_MSG = 1

_SOL_NETLINK = 270
_NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 10, 11
_SO_NETNS_COOKIE = 71

#: Errors of more messages than this may not fit into the receive buffer (kernel facts, 16).
CHUNK_MESSAGES = 128
#: Well below the least SO_SNDBUF that Linux allows by default (212992, counted with the kernel's
#: overhead).
CHUNK_BYTES = 96 * 1024
#: A chunk of requests that are all answered, with a link each.
_CHUNK_REQUESTS = 16
#: The kernel never puts more than 32 KiB into one datagram of a dump.
_DATAGRAM = 64 * 1024
#: A dump that a change of the tables disturbs is taken again for so many seconds, with ever longer pauses.
_DUMP_SECONDS = 20.0
_PAUSE, _LONGEST_PAUSE = 0.005, 0.25
_TIMEOUT = struct.pack("ll", 60, 0)  # struct timeval; all answers are there when send() returns

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_HEADER_LENGTH = HEADER.size
ATTRIBUTE = struct.Struct("=HH")  # struct nlattr: length, type
_ERROR = struct.Struct("=i")

T = TypeVar("T")
#: Reads one message's body out of a datagram: (datagram, start, end) -> what it says, None to leave
#: it out.
Decoder = Callable[[bytes, int, int], Optional[T]]


class Message(NamedTuple):
    """A request without what only the socket knows: its sequence number and whether it is
    acknowledged.
    """

    type: int
    flags: int  # NLM_F_* beside NLM_F_REQUEST and NLM_F_ACK
    body: bytes


def attributes(data: bytes, start: int, end: int) -> Iterator[Tuple[int, int, int]]:
    """The attributes between two offsets: type without flags, start and end of the payload."""
    unpack = ATTRIBUTE.unpack_from
    while start + 4 <= end:
        length, kind = unpack(data, start)
        if length < 4 or start + length > end:
            return
        yield kind & 0x3FFF, start + 4, start + length
        start += (length + 3) & ~3


def _refusal(data: bytes, start: int, end: int, flags: int) -> Tuple[int, str]:
    """The errno (0 for an acknowledgement) and text of a message NLMSG_ERROR."""
    number = -_ERROR.unpack_from(data, start)[0]
    text = ""
    if number and flags & _NLM_F_ACK_TLVS:
        request = _HEADER_LENGTH if flags & _NLM_F_CAPPED else HEADER.unpack_from(data, start + 4)[0]
        for kind, first, last in attributes(data, start + 4 + ((request + 3) & ~3), end):
            if kind == _NLMSGERR_ATTR_MSG:
                text = data[first:last].rstrip(b"\0").decode("utf-8", "replace")
    return number, text


class Failure(NamedTuple):
    """A message of a batch that the kernel refused."""

    position: int
    errno: int
    text: str  # of the extended acknowledgement; "" for none


class Socket:
    """A socket in the network namespace that the calling thread is in when it is made.

    Raises OSError where the kernel gives none.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sequence = 0
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEOUT)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK):
            try:
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            except OSError:  # a kernel before 4.3 or 4.12, which says less
                pass

    @property
    def cookie(self) -> int:
        """What no other network namespace than the socket's ever has; 0 before Linux 5.14."""
        try:
            return int.from_bytes(self._socket.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)
        except OSError:
            return 0

    def close(self) -> None:
        """Close the socket; what it has not read is lost."""
        self._socket.close()

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_rest: object) -> None:
        self.close()

    def batch(self, messages: Sequence[Message]) -> List[Failure]:
        """Send messages in order; returns each failure, by the position of its message. One failing
        stops no other.

        Raises AnswersLost when answers were dropped.
        """
        failures: List[Failure] = []
        first = 0
        while first < len(messages):
            size = last = 0
            for last in range(first, min(first + CHUNK_MESSAGES, len(messages))):
                size += _HEADER_LENGTH + len(messages[last].body) + 3
                if size > CHUNK_BYTES and last > first:
                    last -= 1
                    break
            chunk = messages[first : last + 1]
            base = self._send(chunk, NLM_F_REQUEST, NLM_F_REQUEST | NLM_F_ACK)
            done = False
            while not done:
                for sequence, kind, flags, data, start, end in self._answers():
                    index = sequence - base
                    if kind != _NLMSG_ERROR or not 0 <= index < len(chunk):
                        continue
                    number, text = _refusal(data, start, end, flags)
                    if number:
                        failures.append(Failure(first + index, number, text))
                    done = done or index == len(chunk) - 1
            first = last + 1
        return failures

    def request(self, message: Message) -> None:
        """Carry out one message. Raises NetlinkError."""
        for failure in self.batch((message,)):
            raise NetlinkError(failure.errno, failure.text)

    def ask(self, messages: Sequence[Message], decode: Decoder[T]) -> List[Optional[T]]:
        """The answer to each question, None where there is none. Raises AnswersLost."""
        answers: List[Optional[T]] = []
        for first in range(0, len(messages), _CHUNK_REQUESTS):
            chunk = messages[first : first + _CHUNK_REQUESTS]
            found: List[Optional[T]] = [None] * len(chunk)
            base = self._send(chunk, NLM_F_REQUEST, NLM_F_REQUEST)
            left = len(chunk)
            while left:
                for sequence, kind, _flags, data, start, end in self._answers():
                    index = sequence - base
                    if 0 <= index < len(chunk):
                        left -= 1
                        if kind != _NLMSG_ERROR:
                            found[index] = decode(data, start, end)
            answers += found
        return answers

    def dump(self, message: Message, decode: Decoder[T]) -> List[T]:
        """The messages of a dump, consistent at one instant.

        Raises NetlinkError, or AnswersLost when it never settles.
        """
        until, pause = time.monotonic() + _DUMP_SECONDS, _PAUSE
        while True:
            found = self._dump(message, decode)
            if found is not None:
                return found
            if time.monotonic() > until:
                break
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        raise AnswersLost(errno.EAGAIN, "the kernel's tables change faster than they can be read")

    def _dump(self, message: Message, decode: Decoder[T]) -> Optional[List[T]]:
        found: List[T] = []
        interrupted = 0
        base = self._send((message,), NLM_F_REQUEST | NLM_F_DUMP, NLM_F_REQUEST | NLM_F_DUMP)
        append, unpack = found.append, HEADER.unpack_from
        while True:
            data = self._receive()
            start, total = 0, len(data)
            while start < total:
                length, kind, flags, sequence, _port = unpack(data, start)
                if sequence == base:
                    interrupted |= flags & _NLM_F_DUMP_INTR
                    if kind == _NLMSG_DONE or kind == _NLMSG_ERROR:
                        tlvs = flags if kind == _NLMSG_ERROR else 0
                        number, text = _refusal(data, start + _HEADER_LENGTH, start + length, tlvs)
                        if number > 0:
                            raise NetlinkError(number, text)
                        return None if interrupted else found
                    item = decode(data, start + _HEADER_LENGTH, start + length)
                    if item is not None:
                        append(item)
                start += (length + 3) & ~3

    def _send(self, messages: Sequence[Message], flags: int, last_flags: int) -> int:
        """Send messages in one datagram; the sequence number of the first."""
        base = self._sequence + 1
        self._sequence += len(messages)
        pack = HEADER.pack
        parts: List[bytes] = []
        last = len(messages) - 1
        for index, message in enumerate(messages):
            body = message.body
            bits = message.flags | (last_flags if index == last else flags)
            parts.append(pack(_HEADER_LENGTH + len(body), message.type, bits, base + index, 0))
            parts.append(body)  # attributes are padded, so that the next header is aligned
        try:
            self._socket.send(b"".join(parts))
        except OSError as error:
            raise AnswersLost(error.errno or 0, "the kernel accepted no messages") from None
        return base

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_DATAGRAM)
        except BlockingIOError:
            raise AnswersLost(errno.ETIMEDOUT, "the kernel did not answer") from None
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise AnswersLost(errno.ENOBUFS, "answers of the kernel were lost") from None
            raise

    def _answers(self) -> Iterator[Tuple[int, int, int, bytes, int, int]]:
        """The next datagram's messages: sequence, type, flags, datagram, body's start and end."""
        data = self._receive()
        start = 0
        while start + _HEADER_LENGTH <= len(data):
            length, kind, flags, sequence, _port = HEADER.unpack_from(data, start)
            if length < _HEADER_LENGTH:
                return
            if kind != _NLMSG_NOOP:
                yield sequence, kind, flags, data, start + _HEADER_LENGTH, start + length
            start += (length + 3) & ~3
