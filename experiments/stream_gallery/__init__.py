"""The pictures of the streams' plans, for the documentation.

python -m experiments.stream_gallery

draws docs/streams/NAME.png and writes docs/stream_gallery.md: for every
scenario the call that makes it and what comes when. A new scenario is one more
function in `rows.py`.
"""
