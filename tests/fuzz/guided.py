"""Whatever comes, in any slices: events or ProtocolError, one whole end per request, and all of it within the limits.

The target of :mod:`tests.fuzz.core`, searched by coverage (atheris): ``make fuzz``. What is worth keeping gathers in
the corpus, which starts from the streams of :mod:`tests.fuzz.streams`; a case that fails is shrunk and printed.
"""

from __future__ import annotations

import argparse
import os
import sys
from random import Random

import atheris

with atheris.instrument_imports(include=["simple_fastcgi"]):
    from simple_fastcgi.protocol.application import ApplicationConnection

from tests.fuzz.case import Act, Case, decode_case, encode_case
from tests.fuzz.core import LIMITS, check
from tests.fuzz.mutation import make_case, mutate_case
from tests.fuzz.regressions import REGRESSIONS
from tests.fuzz.shrink import told
from tests.fuzz.streams import SEEDS

LONGEST = 8192
"""Bytes of a case."""


def seeds() -> list[Case]:
    """Every valid stream, each answered in some way, and some mutated ones."""
    answered = [
        Case((b"".join(records), Act("write", 0, 300), Act("end")), (9, 200), number % len(LIMITS))
        for number, records in enumerate(SEEDS)
    ]
    return [*answered, *REGRESSIONS.values(), *(make_case(Random(number)) for number in range(100))]


def one_input(data: bytes) -> None:
    """Check the case in `data`."""
    case = decode_case(data)
    try:
        check(case, ApplicationConnection)
    except Exception as error:
        print(told(check, case, error, "make fuzz"), flush=True)
        raise


def mutator(data: bytes, max_size: int, seed: int) -> bytes:
    """Mostly a neighbour that is still made of records; sometimes any bytes."""
    random = Random(seed)
    if random.random() < 0.1:
        mutated: bytes = atheris.Mutate(data, max_size)
        return mutated
    case = decode_case(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        case = mutate_case(random, case)
    return encode_case(case)[:max_size]


def main() -> None:
    """Search for some time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for how long (default 60)")
    parser.add_argument("--folder", default=".fuzz", help="where the corpus and failing cases are kept")
    options = parser.parse_args()
    corpus = os.path.join(options.folder, "corpus")
    os.makedirs(corpus, exist_ok=True)
    for number, case in enumerate(seeds()):
        with open(os.path.join(corpus, f"seed-{number:04}"), "wb") as file:
            file.write(encode_case(case))
    arguments = [
        sys.argv[0],
        corpus,
        f"-artifact_prefix={options.folder}/",
        f"-max_total_time={options.seconds}",
        f"-max_len={LONGEST}",
        "-timeout=20",
        "-print_final_stats=1",
    ]
    atheris.Setup(arguments, one_input, custom_mutator=mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
