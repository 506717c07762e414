"""The base class of errors that are shown to the user without a traceback, and how to recognise lack of memory."""

from __future__ import annotations

from tickdsl.printable import printable


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory has run out, of the machine or of a GPU; torch has classes and words of its own for that."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
    )


class TickdslError(Exception):
    """An error that the user can fix. `message` says what is wrong and where, `hint` what to do about it.

    Both are made printable: they often quote what they are about.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = printable(message)
        self.hint = None if hint is None else printable(hint)
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}\n  help: {self.hint}" if self.hint else self.message


class NetworkTooLargeError(TickdslError):
    """A network has more parameters than a training can hold."""


class UnreadableDataError(TickdslError):
    """The files of a data set are missing, damaged, or not laid out as they must be."""


class InputsMismatchError(TickdslError):
    """A network does not take the inputs of a data set by their names."""


class TooFewSamplesError(TickdslError):
    """A class has too few different samples for one of them to be held out for validation."""


class UnreadableWeightsError(TickdslError):
    """A file with initial weights is missing, damaged, or holds something else."""


class PartMapError(TickdslError):
    """The option `map=` of a model is malformed, or parts that it names do not exist or do not fit."""


class TicketError(TickdslError):
    """A ticket that cannot be exported, read or rebuilt."""
