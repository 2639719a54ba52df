"""Where the frames of a teacher and of a student lie in time, for any two frame laws: exactly, in half samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asrkd.corpus.frame_law import FrameLaw
from asrkd.errors import MismatchError

Places = NDArray[np.int64]


@dataclass(frozen=True)
class FrameRates:
    """The frame laws of a teacher and of a student, of audio at one sampling rate.

    Below, M and N are the numbers of frames of the teacher and of the student in an utterance. A frame covers its cell (`FrameLaw.cell`). The teacher's first and
    last cell reach as far as the student's do, for the laws round differently.
    """

    teacher: FrameLaw
    student: FrameLaw

    @property
    def ratio(self) -> int:
        """How many frames of the teacher make one of the student, where groups of them do exactly.

        Raises:
            MismatchError: they do not: other windows, or a frame shift that is not a multiple of the teacher's.
        """

        def windows(law: FrameLaw) -> tuple[int | None, ...]:
            return law.window, law.shift, law.begin, law.needed

        ratio, rest = divmod(self.student.frame_shift, self.teacher.frame_shift)
        if rest or not ratio or windows(self.student) != windows(self.teacher):
            raise MismatchError(
                f"the frame law of the teacher is {self.teacher}, the student's is {self.student}; a frame-rate map that picks frames by their number needs "
                "the same window and shift, and a student's frame shift that is a multiple of the teacher's. Use a map that goes by time"
            )
        return ratio

    def check(self, num_teacher: int, num_student: int) -> None:
        """Raise `MismatchError` unless some number of samples makes both numbers of frames."""
        least, most = (self.student.num_frames(length) for length in self.teacher.lengths_of(num_teacher))
        if not least <= num_student <= most:
            raise MismatchError(
                f"the targets have {num_teacher} frames, which by the frame laws make {least} to {most} of the student's, "
                f"but the student has {num_student}; they would be shifted against each other. Use front ends of one sampling rate"
            )

    def nearest(self, num_teacher: int, num_student: int) -> Places:
        """(N,) the teacher's frame at the middle of each of the student's; the later one at a border. M must not be 0."""
        return self._at(self._begins(num_student) + self.student.cell[1] // 2, num_teacher)

    def overlaps(self, num_teacher: int, num_student: int) -> tuple[Places, Places, NDArray[np.float64]]:
        """The teacher's frames that each of the student's overlaps: how many (N,), which (K,), and their shares of it (K,), which sum to 1. M must not be 0."""
        length = self.student.cell[1]
        begins = self._begins(num_student)
        first, last = self._at(begins, num_teacher), self._at(begins + length - 1, num_teacher)
        counts = last - first + 1
        within = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        places = np.repeat(first, counts) + within
        start, size = self.teacher.cell
        # The first and last cell have no outer end.
        low = np.where(places == 0, np.iinfo(np.int64).min, start + places * size)
        high = np.where(places == num_teacher - 1, np.iinfo(np.int64).max, start + (places + 1) * size)
        begins = np.repeat(begins, counts)
        shares = (np.minimum(high, begins + length) - np.maximum(low, begins)) / length
        return counts, places, shares

    def homes(self, num_teacher: int, num_student: int) -> Places:
        """(M,) the student's frame at the middle of each of the teacher's, ascending. N must not be 0."""
        (start, size), (begin, length) = self.teacher.cell, self.student.cell
        return ((start + size * np.arange(num_teacher) + size // 2 - begin) // length).clip(0, num_student - 1)

    def _begins(self, num_student: int) -> Places:
        begin, length = self.student.cell
        return begin + length * np.arange(num_student)

    def _at(self, times: Places, num_teacher: int) -> Places:
        start, size = self.teacher.cell
        return ((times - start) // size).clip(0, num_teacher - 1)
