"""The command `patches`: documents from a terminal, online and offline.

`session` opens the store and the connection, `output` prints, the other modules are the commands.
Nothing of the library is above this folder, and no other module imports it.
"""
