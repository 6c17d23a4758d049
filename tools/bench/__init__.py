"""The benchmark behind `make bench`.

cli       arguments, the order of measurements, files
peers     one living process per peer, and the interleaving
worker    the loop inside such a process
work_*    what is timed: one file per kind of work
inputs    pictures, truth and weights that are the same for every peer
report    medians, ratios, Markdown
"""
