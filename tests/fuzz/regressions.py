"""Cases that have a name: each was found by the fuzzer in a core that was wrong, and shrunk."""

from __future__ import annotations

from tests.fuzz.case import Act, Case

REGRESSIONS = {
    "an abort before the parameters end is answered": Case(
        (
            b"\x01\x01\x00\x02\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00",  # not kept
            b"\x01\x02\x00\x02\x00\x00\x00\x00",
        ),
    ),
    "nothing is answered behind the mark of a broken response": Case(
        (
            b"\x01\x01\x01\x00\x00\x08\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00\x01\x04\x01\x00\x00\x00\x00\x00",
            Act("cut"),
            b"\x01J\x00\x00\x00\x01\x00\x00\xc2",  # a management record of type 74
        ),
        sizes=(20,),
    ),
    "the mark of a broken response waits for the other requests": Case(
        (
            b"\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00\x01\x04\x00\x01\x00\x00\x00\x00",
            b"\x01\x01\xff\xff\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01\x04\xff\xff\x00\x00\x00\x00",
            Act("cut", 1),
        ),
        sizes=(100,),
    ),
    "a handler that flushes behind its end sends nothing": Case(
        (
            b"\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01\x04\x00\x01\x00\x00\x00\x00",
            Act("write", 0, 20),
            Act("end"),
            Act("flush"),
        ),
    ),
    "an id used again before a violation": Case(
        (
            (
                b"\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00\x01\x04\x00\x01\x00\x00\x00\x00"
                b"\x01\x02\x00\x01\x00\x00\x00\x00"  # ABORT_REQUEST
                b"\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00"
                b"\x01\x05\x00\x01\x00\x01\x00\x00x"  # STDIN before the end of the parameters
            ),
        ),
        sizes=(100,),
    ),
    "input that was taken makes room again": Case(
        (
            b"\x01\x01\x00\x03\x00\x08\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00\x01\x04\x00\x03\x00\x00\x00\x00",
            b"\x01\x05\x00\x03\x009\x00\x00" + b"v" * 57,  # more than max_buffered_input
            b"\x01\x04\xff\xfe\x00\x01\x00\x00\x0b",
        ),
        sizes=(100,),
        limits=1,
    ),
}
