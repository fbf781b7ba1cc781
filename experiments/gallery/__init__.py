"""The gallery: every schedule with its call and its plot.

python -m experiments.gallery

makes docs/schedule_gallery.md and docs/gallery/ anew from `rows.ROWS`.
"""
