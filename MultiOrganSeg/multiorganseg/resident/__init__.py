"""A process that stays: it holds networks, their maps and correction sessions, and answers JSON lines.

`requests` says what can be asked and needs only Python's own library; `worker` answers; `loop` reads and
queues.
"""
