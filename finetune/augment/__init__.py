"""Augmentation that is physics: what a training object would look like to another telescope, on a worse night, farther.

``stamps``, ``spectra`` and ``light_curves`` act on records; ``telescopes`` has the published numbers of surveys;
``entries`` gives names to all of it; ``plan`` reads what the user asked for; ``copies`` makes the training examples.
"""
