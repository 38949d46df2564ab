"""Pages for people: one HTML file each, which needs no network, no script and no other file.

page.py        the skeleton: style for light, dark and paper; tables; pictures as data URIs
charts.py      line and bar charts as inline SVG
evaluation.py  what an evaluation found
comparison.py  how runs differ
"""
