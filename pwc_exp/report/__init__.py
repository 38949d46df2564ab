"""Pages for people: one HTML file each, which needs no network, no script and no other file.

page.py        the skeleton: style for light, dark and paper; tables; pictures as data URIs
axes.py        where values stand in a chart, and which are named
charts.py      line and bar charts as inline SVG
evaluation.py  what an evaluation found
comparison.py  how runs differ
sweep.py       what a sweep found; sweep_summary.py says what that is, sweep_tables.py,
               sweep_charts.py and parallel.py draw it, sweep_text.py tells it in a terminal
"""
