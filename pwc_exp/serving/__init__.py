"""The flow of two frames, over HTTP: with what Python itself brings along.

Three addresses, one network that computes one pair at a time: a framework would add nothing but
packages to keep current.

server.py     the command: the network, the socket, the end
handler.py    one connection: what is asked, what is refused
limits.py     how large, how long, how many; and refusals
frames.py     a request's body -> two frames
answers.py    the flow -> .flo, picture or JSON
"""
