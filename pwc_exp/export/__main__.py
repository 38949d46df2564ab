"""`python -m pwc_exp.export`."""

from pwc_exp.export import main

main()
