"""What people have in place of image files, and how to make image files of it."""

from pathlib import Path

from metajax.data.folders.names import some
from metajax.data.folders.tree import Tree, walk

AS_FILES = "save each image as train/CLASS/NUMBER.png, validation/ and test/ likewise"
PICKLE = (
    "pickles are not read, as loading one can run any program; load it yourself if you "
    f"trust it, and {AS_FILES}, as with PIL.Image.fromarray(image).save(path)"
)
ARRAYS = f"arrays are not read; load them with NumPy or SciPy, and {AS_FILES}"
TFRECORD = f"TFRecord files are not read; read them with TensorFlow, and {AS_FILES}"
LMDB = f"LMDB databases are not read; read them with the lmdb package, and {AS_FILES}"
ARCHIVE = "archives are not read; unpack them first, as with unzip or tar -xf"
PARQUET = (
    f"Parquet and Arrow files are not read; load them with datasets, and {AS_FILES}"
)
HDF5 = (
    "HDF5 files are read in torchmeta's form only: train_data.hdf5, val_data.hdf5 and "
    'test_data.hdf5, each with a group "datasets" of an array uint8[images, height, '
    f"width, 3] a class; otherwise read them with h5py, and {AS_FILES}"
)
# By how a suffix begins, as TFRecords go on with numbers.
HINTS = {
    (".pkl", ".pickle", ".pt", ".pth", ".joblib"): PICKLE,
    (".npz", ".npy", ".mat"): ARRAYS,
    (".hdf5", ".h5", ".hdf"): HDF5,
    (".tfrecord",): TFRECORD,
    (".lmdb", ".mdb"): LMDB,
    (".parquet", ".arrow"): PARQUET,
    (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"): ARCHIVE,
}


def describe(folder: Path, tree: Tree | None = None) -> str:
    """What is in a folder in which no images were found where they should be.

    Args:
      folder: whose entries are named.
      tree: of it, if it was walked already.

    Returns:
      The first entries, and how to convert those that are never read.
    """
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
    hints = hints_for(list((tree or walk(folder)).others))
    return "; ".join([some(names) or "nothing", *hints])


def hints_for(suffixes: list[str]) -> list[str]:
    """How to convert files of these suffixes that are never read.

    >>> hints_for([".txt", ".zip"])
    ['archives are not read; unpack them first, as with unzip or tar -xf']
    """
    lower = [suffix.lower() for suffix in suffixes]
    return [
        hint
        for starts, hint in HINTS.items()
        if any(suffix.startswith(starts) for suffix in lower)
    ]
