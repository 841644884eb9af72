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

    A run was trained by metajax train; a backbone (--backbone) is a pre-trained network
    of a file. Pictures may have any size; they are resized as in training. Classifiers
    of Omniglot and of glyphs read them as dark ink on white paper, and runs of their
    scenes as bright ink on black. A run of segmentation outlines what is in them
    (--masks), and one of detection boxes it (--boxes).
    """

    run: tyro.conf.Positional[Path | None] = None
    """The run's directory, or a file of metajax publish; leave it out with --backbone
    and --from."""
    backbone: Path | None = None
    """File of a pre-trained network to label with in place of a run: safetensors by
    timm's names, with its config.json beside it; or their folder. With --from, where
    the network is now, if it was moved."""
    head: Heads = "auto"
    """With --backbone: the class means of its features about their mean (prototypes) or
    as they are (cosine), ridge regression (ridge), the network fine-tuned (pmf: slow);
    or auto, which of the first three leave-one-out finds best."""
    others: Path | None = None
    """With --backbone: folder of labelled pictures of other classes, CLASS/*. How those
    of one class differ is learnt from them, and undone in all pictures; --crop auto
    then leaves pictures as they are."""
    support: Path | None = None
    """Folder of labelled pictures, CLASS/*: at least two classes, of any number of
    pictures each. With --masks, a folder of images/, masks/ (PNG, a value a class) and
    classes.txt; with --boxes, of images/ and annotations.json, in COCO's form."""
    columns: str | None = None
    """Of a table of labelled pictures in place of the folder: which columns are which,
    as file=photo,label=breed, if they are not called filename and label."""
    corrections: tuple[Path, ...] = ()
    """Tables of corrections that pages of --html saved, to add to --support: of files
    in --images or beside the table. A correction wins over the label in --support and
    in tables before it. A page saves those made on it alone, so give all its tables."""
    images: Path | None = None
    """Folder of the pictures to label, at any depth."""
    watch: Path | None = None
    """Folder whose pictures are labelled as they arrive, in place of --images: rows are
    added to --out until Ctrl-C ends it. Pictures that --out has are passed over."""
    out: Path | None = None
    """Table to write: file, label, confidence, runner-up and its confidence, and
    novelty, which is above 0.5 for pictures that look to be of no labelled class; CSV,
    or JSON lines if its suffix is .jsonl. Pictures that cannot be read are listed in a
    file beside it."""
    none: bool = False
    """Label pictures of a novelty above 0.5 as none: their confidence is the novelty,
    and that of the runner-up what it leaves to the most probable class."""
    suggest: int = 0
    """How many pictures to name whose labels would teach most: uncertain ones, unlike
    each other."""
    truth: Path | None = None
    """True labels to score the labels against: a folder CLASS/* of the pictures or of
    copies of them, or a CSV table of file, below --images, and label. Other classes
    than the labelled ones, or none, are those of pictures to be labelled none."""
    invert: bool = False
    """Make every picture, labelled or not, that is bright on dark dark on bright."""
    crop: Literal["auto", "none", "ink"] = "auto"
    """Crop every picture, labelled or not, to its ink: what differs from its border;
    by default, where leave-one-out is clearly better with it, and likewise --invert."""
    label_studio: Path | None = None
    """File of Label Studio's tasks with predictions to write, for a project of its
    template Image Classification; its pictures are below the folder above --images."""
    coco: Path | None = None
    """File of COCO's form to write: images, categories, and for each picture an
    annotation with its category and score."""
    links: Path | None = None
    """Folder to write, of a folder for each class with links to its pictures; one of an
    earlier command is replaced."""
    masks: Path | None = None
    """Folder to write in place of --out, of a run of segmentation: masks/*.png, of the
    size of each picture, the value k for line k of classes.txt."""
    boxes: Path | None = None
    """File to write in place of --out, of a run of detection: boxes in COCO's form, in
    pixels of each picture, with scores of at least 0.05; --html shows those of 0.3."""
    html: Path | None = None
    """HTML page to write: the pictures by label, the least confident first, with their
    outlines or boxes. Labels can be changed on it, and saved for --corrections."""
    save: Path | None = None
    """File to save the taught learner in, for --from. It has a run's network in it; a
    backbone it names by path and digest, and one that was changed is refused."""
    source: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    """File of --save to label with, instead of a run and --support."""
    export: Path | None = None
    """File to export the taught learner to: a StableHLO program that runs without
    metajax."""
    checkpoint: Literal["last", "best"] = "last"
    """Which checkpoint of the run: the newest, or that of the best validation."""
    archives: Path | None = None
    """For a run of Omniglot: folder of images_background.zip and images_evaluation.zip,
    to estimate accuracy on the run's validation classes too."""
    data_dir: Path | None = None
    """Folder of the run's prepared data, to estimate accuracy on its validation classes
    too; TFDS's own by default."""
    run_images: Path | None = None
    """The folder of images that the run was trained on, to estimate accuracy on its
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
        files = DenseFiles(learner.targets, self.images, out, self.html)
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
            self.source,
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
        files = WatchFiles(folder, self.out, self.none)
        files.check()
        with kept:
            labeller = self._labeller()
            print(*labeller.expected, sep="\n")
            files.write(labeller)

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
        if any((*others, places.archives, places.images)):
            raise InputError(
                "--from FILE holds the run, its classes and how pictures are prepared; "
                "leave out the run, its data, --support, --others, --corrections, "
                "--columns, --head, --invert and --crop"
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
