"""The command that labels pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from metajax.cli.programs import Programs
from metajax.errors import InputError
from metajax.experiments.tasks import Places

DENSE = "masks", "boxes"  # flags of labels that lie in a picture
Heads = Literal["auto", "prototypes", "cosine", "ridge", "pmf"]
FORMS = "label_studio", "coco", "links"
UNWATCHED = "images", "html", "save", "export", *FORMS  # flags that --watch refuses
UNWATCHED += "suggest", "truth"
UNMARKED = "backbone", "head", "watch", "out", "columns", "save", "source", "export"
UNMARKED += "corrections", "archives", "run_images", *FORMS  # --masks and --boxes
UNMARKED += "others", "none", "suggest", "truth", "invert", "crop"


@dataclass(frozen=True)
class Label:
    """Label a folder of pictures from a few labelled ones, with a run or a backbone.

    A run is a directory of metajax train; a backbone (--backbone) is a pre-trained
    network in a file. Pictures may have any size, and are resized as in training.
    Classifiers of Omniglot and of glyphs expect dark ink on white paper; runs of their
    scenes expect bright ink on black. A segmentation run outlines objects (--masks),
    and a detection run boxes them (--boxes).
    """

    run: tyro.conf.Positional[Path | None] = None
    """Directory of the run, or a file of metajax publish; omit it with --backbone and
    --from."""
    backbone: Path | None = None
    """Pre-trained network to label with in place of a run: a safetensors file with
    timm's parameter names and its config.json beside it, or their folder. With --from:
    where the network is now, if it was moved."""
    head: Heads = "auto"
    """With --backbone: nearest class mean of the features, centred (prototypes) or not
    (cosine), ridge regression (ridge), fine-tuning of the network (pmf, slow), or
    whichever of the first three has the best leave-one-out accuracy (auto)."""
    others: Path | None = None
    """With --backbone: folder of labelled pictures of other classes, CLASS/*. How
    pictures of one class vary is learnt from them, and removed from all features;
    --crop auto then leaves pictures as they are."""
    support: Path | None = None
    """Folder of labelled pictures, CLASS/*: at least two classes, of any number of
    pictures each. With --masks: a folder with images/, masks/ (PNG, one value per
    class) and classes.txt. With --boxes: a folder with images/ and annotations.json in
    COCO format."""
    columns: str | None = None
    """Columns of a table of labelled pictures, if --support is one and they are not
    filename and label, as file=photo,label=breed."""
    corrections: tuple[Path, ...] = ()
    """Tables of corrections saved from --html pages, to add to --support; their files
    are in --images or beside the table. A correction overrides --support and earlier
    tables. A page saves only the corrections made on it, so give all tables."""
    images: Path | None = None
    """Folder of the pictures to label, including its subfolders."""
    watch: Path | None = None
    """Folder whose pictures are labelled as they arrive, in place of --images: rows are
    added to --out until Ctrl-C. Pictures that are already in --out are skipped."""
    out: Path | None = None
    """Table to write: file, label, confidence, runner-up and its confidence, and
    novelty, which is above 0.5 for pictures that seem to be of no labelled class. CSV,
    or JSON lines if the suffix is .jsonl. Unreadable pictures are listed in a file
    beside it."""
    none: bool = False
    """Label pictures whose novelty is above 0.5 as none, with the novelty as
    confidence; the runner-up is then the most probable class, with its probability
    times 1 - novelty."""
    suggest: int = 0
    """Number of pictures to suggest for labelling next: uncertain ones, unlike each
    other."""
    truth: Path | None = None
    """True labels to score the labels against: a folder CLASS/* of the pictures or of
    copies of them, or a CSV table with columns file (relative to --images) and label.
    Pictures whose true class is none, or is not in --support, should be labelled
    none."""
    invert: bool = False
    """Invert every picture, labelled or not, that is bright on dark."""
    crop: Literal["auto", "none", "ink"] = "auto"
    """Crop every picture, labelled or not, to its ink, which is what differs from its
    border (ink). By default (auto), pictures are cropped, and inverted as by --invert,
    where that clearly improves leave-one-out accuracy."""
    label_studio: Path | None = None
    """Label Studio file to write: tasks with predictions, for a project with the
    template Image Classification, whose pictures are below the parent folder of
    --images."""
    coco: Path | None = None
    """COCO file to write: images, categories, and one annotation per picture with its
    category and score."""
    links: Path | None = None
    """Folder to write: links to the pictures, in one folder per class. A folder of an
    earlier command is replaced."""
    masks: Path | None = None
    """Folder to write in place of --out, with a segmentation run: masks/*.png in the
    size of each picture, where the value k means line k of classes.txt, or key k of
    classes.json, where that is written instead."""
    boxes: Path | None = None
    """File to write in place of --out, with a detection run: boxes in COCO format, in
    pixels of each picture, with scores of at least 0.05; --html shows those of at least
    0.3."""
    html: Path | None = None
    """HTML page to write: the pictures by label, least confident first, with any
    outlines or boxes. Labels can be corrected on it and saved for --corrections."""
    save: Path | None = None
    """File to save the taught learner to, for --from. It contains the network of a run;
    a backbone is kept by path and digest, and refused if it has changed."""
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """File of --save to label with, in place of a run and --support."""
    export: Path | None = None
    """File to export the taught learner to: a StableHLO program that runs without
    metajax."""
    checkpoint: Literal["last", "best"] = "last"
    """Checkpoint of the run to use: the newest, or the one of the best validation."""
    archives: Path | None = None
    """Folder with images_background.zip and images_evaluation.zip for an Omniglot run,
    to estimate accuracy on its validation classes too."""
    data_dir: Path | None = None
    """Folder of the run's prepared data, to estimate accuracy on its validation classes
    too; by default TFDS's data directory."""
    run_images: Path | None = None
    """Folder of images that the run was trained on, to estimate accuracy on its
    validation classes too."""
    programs: Annotated[Programs, tyro.conf.arg(name="")] = Programs()

    def __call__(self) -> None:
        """Labels."""
        kept = self.programs.kept(Places(data_dir=self.data_dir).prepared)
        dense = [kind for kind in DENSE if getattr(self, kind) is not None]
        if dense:
            self._check_dense(dense)
            self._mark(dense[0], kept)
        elif self.watch is not None:
            self._watch(self.watch, kept)
        else:
            self._label(kept)

    def _check_dense(self, dense: list[str]) -> None:
        """Refuses what would be ignored with `--masks` or `--boxes`."""
        if len(dense) > 1:
            raise InputError("--masks and --boxes are of different runs; give one")
        for name in UNMARKED:
            if getattr(self, name) != getattr(type(self), name):
                flag = "from" if name == "source" else name.replace("_", "-")
                raise InputError(f"--{flag} is not for --{dense[0]}; leave it out")

    def _mark(self, kind: Any, kept: Any) -> None:
        """Outlines, or boxes."""
        from metajax.experiments.dense_outputs import DenseFiles
        from metajax.experiments.labelled_dense import dense_learner, teach_dense_run

        if self.run is None or self.support is None or self.images is None:
            raise InputError(
                f"--{kind} needs a run's directory, --support DIR and --images DIR"
            )
        learner = dense_learner(self.run, kind)
        out = getattr(self, kind)
        paths = self.images, self.support, out, self.html
        files = DenseFiles(learner.targets, *paths)
        images = files.check()
        with files.stdout_apart(), kept:
            labeller = teach_dense_run(self.run, learner, self.support, self.checkpoint)
            print(*labeller.expected, sep="\n")
            files.write(labeller, images)

    def _label(self, kept: Any) -> None:
        from metajax.experiments.label_forms import WRITERS
        from metajax.experiments.label_outputs import LabelFiles

        paths = self.images, self.out, self.html, self.save, self.export
        flags = {flag: flag[2:].replace("-", "_") for flag in WRITERS}
        others = {x: path for x, name in flags.items() if (path := getattr(self, name))}
        files = LabelFiles(
            *paths,
            self._read(),
            others,
            none=self.none,
            suggestions=self.suggest,
            truth=self.truth,
        )
        images = files.check()
        with files.stdout_apart(), kept:
            labeller = self._labeller()
            print(*labeller.expected, sep="\n")
            files.write(labeller, images)

    def _watch(self, folder: Path, kept: Any) -> None:
        """Labels pictures as they arrive."""
        from metajax.experiments.watching import WatchFiles

        flags = {f"--{x.replace('_', '-')}": getattr(self, x) for x in UNWATCHED}
        if ignored := [flag for flag, path in flags.items() if path]:
            raise InputError(f"{ignored[0]} is not for --watch; leave it out")
        if self.out is None:
            raise InputError("--watch needs --out: pictures in, their labels out")
        files = WatchFiles(folder, self.out, self.none, self._read())
        files.check()
        with kept:
            labeller = self._labeller()
            print(*labeller.expected, sep="\n")
            files.write(labeller)

    def _read(self) -> list[tuple[str, Path]]:
        """The flags of files that are read, and those files."""
        files = [("--from", self.source), ("--support", self.support)]
        files += [("--corrections", table) for table in self.corrections]
        return [(flag, path) for flag, path in files if path is not None]

    def _labeller(self) -> Any:
        places = Places(self.archives, self.data_dir, self.run_images)
        if self.source is not None:
            return self._load(self.source, places)
        if self.support is None or (self.run is None) == (self.backbone is None):
            raise InputError(
                "expected a run's directory or --backbone FILE, and --support DIR; or "
                "--from FILE"
            )
        if self.backbone is not None:
            return self._on_backbone(self.backbone, self.support, places)
        if self.head != "auto" or self.others is not None:
            raise InputError("--head and --others are for --backbone; leave them out")
        return self._of_run(self.run, self.support, places)

    def _of_run(self, run: Any, support: Path, places: Places) -> Any:
        from metajax.data.folders.listing import parse_columns
        from metajax.experiments.labelled import teach_run

        return teach_run(
            run,
            support,
            places,
            kept=self.checkpoint,
            columns=parse_columns(self.columns),
            corrections=self._corrections(),
            invert=self.invert,
            crop=self.crop,
            none=self.none,
        )

    def _on_backbone(self, backbone: Path, support: Path, places: Places) -> Any:
        from metajax.data.folders.listing import parse_columns
        from metajax.experiments.labelled_backbone import teach_file

        if places.archives or places.images or self.checkpoint != "last":
            raise InputError(
                "--archives, --run-images and --checkpoint are of a run; leave them "
                "out with --backbone"
            )
        return teach_file(
            backbone,
            support,
            head=self.head,
            invert=self.invert,
            crop=self.crop,
            columns=parse_columns(self.columns),
            corrections=self._corrections(),
            cache=self.programs.features(places.prepared),
            none=self.none,
            others=self.others,
        )

    def _load(self, source: Path, places: Places) -> Any:
        from metajax.experiments.labelled_backbone import load_labeller
        from metajax.labelling.answers import check_none

        others = self.run, self.support, self.corrections, self.columns, self.invert
        others += self.others, self.head != "auto", self.crop != "auto"
        others += (self.checkpoint != "last",)
        if any((*others, places.archives, places.images)):
            raise InputError(
                "--from FILE holds the run, its classes and how pictures are prepared; "
                "leave out the run, its data, --checkpoint, --support, --others, "
                "--corrections, --columns, --head, --invert and --crop"
            )
        cache = self.programs.features(places.prepared)
        labeller = load_labeller(source, backbone=self.backbone, cache=cache)
        if self.none:
            check_none(labeller.classes)
        return labeller

    def _corrections(self) -> Any:
        from metajax.data.folders.corrections import Corrections

        pictures = [folder for folder in (self.images, self.watch) if folder]
        return [Corrections(x, [*pictures, x.parent]) for x in self.corrections]
