"""The algorithms that decide what a document becomes when several edit it.

`base` is the interface; each algorithm has a folder of its own and brings its stores. Above this
folder nothing names an algorithm.
"""
