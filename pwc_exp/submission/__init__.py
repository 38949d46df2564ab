"""Submissions: predictions for the test split of a benchmark, in the form that its server takes.

submit.py      the command: writes a bundle, validates it by reading it back, scores a dry run
benchmarks.py  what each benchmark asks for
validate.py    reads a bundle, a folder or a zip from anywhere, and reports what is wrong with it
"""
