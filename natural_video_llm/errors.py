"""The one exception that a person sees."""


class UserError(Exception):
    """Something that a person can put right: one line saying what is wrong, where, and what to do (one for each file
    where several failed).

    The command line prints the line and exits with 1; nothing else in the house catches it.
    """


def need_between(name: str, value: float, low: float, high: float) -> None:
    """Raise `UserError` where `value` does not lie between `low` and `high`; what is no number (NaN) does not."""
    if not low <= value <= high:
        raise UserError(f"{name} is {value}, but must lie between {low} and {high}")


def first_line(error: BaseException) -> str:
    """What a library says, short enough for one line of ours."""
    return (str(error).strip().splitlines() or ["no reason given"])[0][:200]
