"""The one exception that a person sees."""


class UserError(Exception):
    """Something that a person can put right: one line saying what is wrong, where, and what to do (one for each file
    where several failed).

    The command line prints the line and exits with 1; nothing else in the house catches it.
    """


def first_line(error: BaseException) -> str:
    """What a library says, short enough for one line of ours."""
    return (str(error).strip().splitlines() or ["no reason given"])[0][:200]
