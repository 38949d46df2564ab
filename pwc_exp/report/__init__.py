"""Pages for people: one HTML file each, without scripts, network access or further files.

pages.py     renders the Jinja templates in templates/, and formats what they show
figures.py   line, bar and scatter charts by matplotlib, as inline SVG
pictures.py  samples as pictures: frames, flow, errors, pyramid levels

The contents of pages are made by those who know them: `pwc_exp.evaluation`, `pwc_exp.sweeps`.
"""
