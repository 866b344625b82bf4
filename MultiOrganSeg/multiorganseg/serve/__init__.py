"""A server that answers the requests of a resident process over HTTP.

`rooms` keeps the files of each client apart, `child` holds the resident process, `app` says what is asked
how, and `door` listens.
"""
