"""What can stop a run, or one image of it. Knows nothing of Prefect or MLX.

CaptionerError              one sentence for the user, with the next step
├── InputError              a directory or a setting that cannot be used
├── InputGone               the input directory went away while a run was under way
├── CheckpointError         the model's files are missing, damaged or do not fit
├── DownloadError           the download cannot succeed by trying again
├── DownloadInterrupted     the download may succeed when tried again
├── DeviceError             the MLX device cannot work any more
│   └── DeviceStopped       because it was told to stop
├── OutputError             a result cannot be written
└── CaptionError            one image got no caption; the run goes on
    └── UnreadableImage     because of what is in its file
"""

from captioner.text import in_the_reader_s_words, printable


class CaptionerError(Exception):
    """The base of them all; `str()` of it is a sentence that a user can act on."""

    def __str__(self) -> str:
        return in_the_reader_s_words(super().__str__())


class InputError(CaptionerError):
    """A directory or a setting cannot be used."""


class InputGone(CaptionerError):
    """The input directory went away while a run was under way."""


class CheckpointError(CaptionerError):
    """The model's files are missing, damaged, or do not fit into memory."""


class DownloadError(CaptionerError):
    """The download cannot succeed by trying again."""


class DownloadInterrupted(CaptionerError):
    """The download broke off for a reason that may pass."""


class DeviceError(CaptionerError):
    """The MLX device cannot work any more."""


class DeviceStopped(DeviceError):
    """The MLX device was told to stop before it could do this."""


class OutputError(CaptionerError):
    """A result cannot be written."""


class CaptionError(CaptionerError):
    """One image got no caption."""


class UnreadableImage(CaptionError):
    """The file is not a picture that can be captioned; `str()` says why."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, or its type when it has none; printable.

    Libraries quote what they were given, such as a checkpoint's configuration.
    """
    lines = str(error).strip().splitlines()
    return printable(lines[0].strip()) if lines else type(error).__name__
