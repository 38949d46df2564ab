"""What ends a command with one line and an exit code (of sysexits.h, where it has one)."""


class UserError(Exception):
    """What a user can mend. The message, one line: what must hold, what was received, where."""

    exit_code = 1


class ConfigError(UserError, ValueError):
    """A configuration key or value that is refused."""

    exit_code = 2


class SweepError(UserError, RuntimeError):
    """A sweep of which some runs did not finish."""

    exit_code = 3


class DataError(UserError, ValueError):
    """A file whose content is not what it must be: data set, frame, flow or weights."""

    exit_code = 65


class MissingInputError(UserError, FileNotFoundError):
    """A file or folder that must be there and is not."""

    exit_code = 66


class ParityError(UserError, ArithmeticError):
    """An exported network that is not the network."""

    exit_code = 70


class MissingExtraError(UserError, ImportError):
    """A package that only some users need, and that is not installed."""

    exit_code = 69


class DeviceMemoryError(UserError, MemoryError):
    """A batch that does not fit the memory of a device."""

    exit_code = 71


class OutputError(UserError, OSError):
    """A place that cannot be written."""

    exit_code = 73


class DiskFullError(OutputError):
    """A disk that has no room left, no quota left, or that fails; what was there is unchanged."""

    exit_code = 74


class BusyError(UserError, BlockingIOError):
    """A run, folder or file that another process holds; trying again later may help."""

    exit_code = 75


class NonFiniteError(UserError, ArithmeticError):
    """A loss, gradient or weight that became NaN or infinite."""

    exit_code = 76


class ResumeError(UserError, ValueError):
    """A run that cannot be continued as asked."""

    exit_code = 78


class StoppedError(UserError):
    """A run of a sweep that was asked to stop, and saved."""

    exit_code = 143
