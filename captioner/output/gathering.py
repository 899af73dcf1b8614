"""One folder, split into shards and merged again: what is to be done by which of them, and what
they have done so far, noted in the run that gave them out.

Knows nothing of how a shard comes to a machine.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from captioner.errors import OutputError
from captioner.groups import DeviceSettings, ResultSettings
from captioner.output.lock import locked
from captioner.output.mirror import tidy
from captioner.output.planning import Ask, Planner
from captioner.output.provenance import FILE_NAME, OnlyRead, Provenance
from captioner.output.rounds import Ended, Made, NotMade, Round, Told, begin, begun, merge
from captioner.plan import Plan, Scan, shard_of
from captioner.records import (
    Caption,
    Checkpoint,
    DeviceFigures,
    Failure,
    Job,
    LoadedModel,
    Recipe,
    Skipped,
)
from captioner.run import Run
from captioner.settings import Settings
from captioner.text import printable

NOBODY = "no shard captioned it"
# what a shard does depends on all settings but where things are on a machine, how that works, and
# what is made of the captions
NOT_ASKED = {
    *("input_dir", "output_dir", "model", "limit", "shard"),
    *DeviceSettings.model_fields,
    *ResultSettings.model_fields,
}


class Gathering:
    """The shards of one output folder. A plain class: Prefect passes it on as it is."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._told = Told(directory)
        self._made: dict[str, Made] = {}
        self._captions: dict[str, Caption] = {}
        self._not_made: dict[str, NotMade] = {}
        self._endings: list[Ended] = []
        self._noted = False
        self._jobs: dict[str, Job] = {}
        self._left: Counter[int] = Counter()  # pictures without news, by shard
        self.round: Round | None = None

    def split(self, scan: Scan, settings: Settings, recipe: Recipe, ask: Ask, shards: int) -> Plan:
        """What of the pictures is to be done, and into how many shards that is split, unless the
        same was split before and is not merged yet: then it goes on from there.

        Raises:
            InputError: shards of something else, or another run, are at work in the folder.
            OutputError: the folder can be neither read nor written.
        """
        asked = settings.model_dump(mode="json", exclude=NOT_ASKED)
        try:
            self.round = begun(self._directory)
            if self.round is None or self.round.settings != asked:
                with locked(self._directory):
                    Provenance(self._directory / FILE_NAME).mend()
                    merge(self._directory)
                    self.round = begin(self._directory, shards, asked)
            self._read_on()
            provenance = OnlyRead(self._directory / FILE_NAME)
            with Planner(self._directory, provenance, settings, recipe, ask) as planner:
                plan = planner.plan(scan.pictures)
        except OSError as error:
            raise OutputError(
                f"Output directory {printable(str(self._directory))} cannot be read or written "
                f"({error.strerror or error}): check its permissions, and the disk that it is on."
            ) from error
        plan = self._with_what_is_done(plan)
        self.expect(plan.todo)
        return plan

    def expect(self, jobs: Iterable[Job]) -> None:
        """What the shards have to do between them."""
        self._jobs = {job.picture.key: job for job in jobs}
        done = {*self._made, *self._not_made}
        self._left = Counter(self._shard_of(key) for key in self._jobs if key not in done)

    def left(self) -> Counter[int]:
        """How many pictures each shard has still to do."""
        return +self._left  # without those that have nothing left

    def is_there(self) -> bool:
        """Whether the folder is the one that was split."""
        try:
            found = begun(self._directory)
        except OSError:
            return False
        return found is not None and found == self.round

    def note(self, run: Run) -> None:
        """Note in the run what the shards have done since it was asked last.

        Raises:
            OSError: the folder cannot be read.
        """
        if not self._read_on() and self._noted:
            return
        self._noted = True
        for key in self._made.keys() - self._captions.keys():
            if job := self._jobs.get(key):
                made = self._made[key]
                self._captions[key] = Caption(job, "", made.generation, made.stamp)
        run.captioned = list(self._captions.values())
        troubled = [
            (job, told)
            for key, told in self._not_made.items()
            if key not in self._made and (job := self._jobs.get(key))
        ]
        run.skipped = [Skipped(j.picture, t.reason, t.stamp) for j, t in troubled if t.skipped]
        run.failures = [Failure(job, told.reason) for job, told in troubled if not told.skipped]
        if run.model is None and (first := next(iter(self._made.values()), None)):
            where = run.settings.model or Path(run.settings.repo_id)
            run.load(Checkpoint(where, first.repo_id, first.revision, 0), 1, 0.0)

    def end(self, run: Run) -> None:
        """Note in the run that nothing more comes, and the figures of all shards together.

        Raises:
            OSError: the folder cannot be read.
        """
        self.note(run)
        done = {*self._made, *self._not_made}
        run.failures += [Failure(job, NOBODY) for key, job in self._jobs.items() if key not in done]
        loaded = [ended for ended in self._endings if ended.batch_size]
        if run.model and loaded:
            weights = max(ended.weight_bytes for ended in loaded)
            run.model = LoadedModel(
                replace(run.model.checkpoint, weight_bytes=weights),
                max(ended.batch_size or 1 for ended in loaded),
                sum(ended.load_seconds for ended in loaded),
            )
        run.end(_together(ended.device for ended in loaded))

    def revisions(self) -> set[str]:
        """The revisions of the model that the captions were made with."""
        return {made.revision for made in self._made.values()}

    def merge(self) -> None:
        """Move what the shards noted to where a single run notes it. The caller holds the folder.

        Raises:
            OutputError: something cannot be read or written; it can be called again.
        """
        try:
            files = (job.caption_file for job in self._jobs.values())
            tidy(self._directory, {file[: file.rfind("/") + 1] for file in files if "/" in file})
            Provenance(self._directory / FILE_NAME).mend()
            merge(self._directory)
        except OSError as error:
            raise OutputError(
                f"What the shards noted in {printable(str(self._directory))} cannot be merged "
                f"({error.strerror or error}): mend that and run again."
            ) from error

    def _read_on(self) -> bool:
        """Whether there was news."""
        news = False
        for told in self._told.news():
            news = True
            if isinstance(told, Ended):
                self._endings.append(told)
                for each in (*told.failed, *told.skipped):
                    self._hear_of(each)
            else:
                self._hear_of(told)
        return news

    def _hear_of(self, told: Made | NotMade) -> None:
        key = told.image
        if key in self._jobs and key not in self._made and key not in self._not_made:
            self._left[self._shard_of(key)] -= 1
        if isinstance(told, Made):
            self._made[key] = told
        else:
            self._not_made[key] = told

    def _shard_of(self, key: str) -> int:
        return shard_of(key, self.round.shards if self.round else 1)

    def _with_what_is_done(self, plan: Plan) -> Plan:
        """The plan of the whole round: what shards have done already was to be done in it."""
        jobs = {job.picture.key: job for job in plan.todo}
        reasons = {key: made.again for key, made in self._made.items()}
        reasons |= {key: None for key in self._not_made if key not in reasons}
        todo = [each for each in plan.pictures if each.key in jobs or each.key in reasons]
        return Plan(
            plan.pictures,
            plan.caption_files,
            todo=tuple(
                Job(
                    picture,
                    plan.caption_files[picture.key],
                    number,
                    len(todo),
                    job.reason if (job := jobs.get(picture.key)) else reasons[picture.key],
                )
                for number, picture in enumerate(todo, start=1)
            ),
            up_to_date=[key for key in plan.up_to_date if key not in reasons],
            edited=plan.edited,
            left=plan.left,
            later=plan.later,
            skipped=[each for each in plan.skipped if each.picture.key not in reasons],
            unreadable=plan.unreadable,
            gone=plan.gone,
            unasked=plan.unasked,
        )


def _together(devices: Iterable[DeviceFigures]) -> DeviceFigures:
    """What several devices did, as if one had done it."""
    each = list(devices)
    return DeviceFigures(
        sum(device.busy_seconds for device in each),
        sum(device.idle_seconds for device in each),
        max((device.peak_memory_bytes for device in each), default=0),
    )
