"""`python -m pwc_exp.benchmark`."""

from pwc_exp.benchmark import main

main()
